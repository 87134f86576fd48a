// SPDX-License-Identifier: MIT

// A password that lies in guarded memory, in Go with cgo.
//
// Guards against: C code in the process, and Go code with a wrong unsafe.Pointer, that reads the
// password while nothing uses it.
//
// The trap: rights belong to a thread, and the scheduler moves a goroutine to another thread at
// almost any call. A guard would then be released in a thread that did not acquire it, and the first
// thread would stay open. So WithRead locks the goroutine to its thread from before the guard is
// acquired until after it is released. Do not start goroutines inside: they run in other threads.
//
// build: go build vault.go    pkg-config must find pkeyguard
// usage: vault [--crash]      --crash reads the memory with no guard open, which kills the process
package main

/*
#cgo pkg-config: pkeyguard
#include <pkeyguard.h>
#include <sys/mman.h>
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// A Vault holds bytes that can be reached only in the functions that WithRead and WithWrite call.
type Vault struct {
	key    *C.struct_pkeyguard_key
	region *C.struct_pkeyguard_region
	size   int
}

func check(result C.int) error {
	if result < 0 {
		return syscall.Errno(-result)
	}
	return nil
}

// NewVault makes a vault of size bytes.
func NewVault(size int) (*Vault, error) {
	vault := &Vault{size: size}
	if err := check(C.pkeyguard_key_create(C.PKEYGUARD_NO_ACCESS, 0, &vault.key)); err != nil {
		return nil, err
	}
	err := check(C.pkeyguard_region_create(vault.key, C.size_t(size), C.PROT_READ|C.PROT_WRITE, 0,
		&vault.region))
	if err != nil {
		C.pkeyguard_key_destroy(vault.key)
		return nil, err
	}
	return vault, nil
}

func (vault *Vault) with(rights C.enum_pkeyguard_rights, use func(bytes []byte)) error {
	var guard C.struct_pkeyguard_guard

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := check(C.pkeyguard_acquire(vault.region, rights, &guard)); err != nil {
		return err
	}
	defer C.pkeyguard_release(&guard)
	use(vault.unsafeBytes())
	return nil
}

// WithRead calls use with the vault's bytes, which it may only read.
func (vault *Vault) WithRead(use func(bytes []byte)) error {
	return vault.with(C.PKEYGUARD_READ_ONLY, use)
}

// WithWrite calls use with the vault's bytes.
func (vault *Vault) WithWrite(use func(bytes []byte)) error {
	return vault.with(C.PKEYGUARD_READ_WRITE, use)
}

// Destroy wipes the vault.
func (vault *Vault) Destroy() error {
	if err := check(C.pkeyguard_region_destroy(vault.region)); err != nil {
		return err
	}
	return check(C.pkeyguard_key_destroy(vault.key))
}

func (vault *Vault) enforcement() string {
	if C.pkeyguard_key_enforcement(vault.key) == C.PKEYGUARD_PKU {
		return "protection keys"
	}
	return "mprotect"
}

func (vault *Vault) unsafeBytes() []byte {
	address := C.pkeyguard_region_unsafe_address(vault.region)
	return unsafe.Slice((*byte)(address), vault.size)
}

// Reads the vault in many goroutines at a time. Returns how many read the whole password.
func readInParallel(vault *Vault, password string) int {
	var workers sync.WaitGroup
	var lock sync.Mutex
	right := 0

	for i := 0; i < 50; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			vault.WithRead(func(bytes []byte) {
				runtime.Gosched() // another goroutine runs, in another thread
				if string(bytes[:len(password)]) == password {
					lock.Lock()
					right++
					lock.Unlock()
				}
			})
		}()
	}
	workers.Wait()
	return right
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func main() {
	const password = "correct horse"
	vault, err := NewVault(64)

	fail(err)
	fmt.Println("Go, enforced by", vault.enforcement())
	fail(vault.WithWrite(func(bytes []byte) { copy(bytes, password) }))
	fmt.Println("goroutines that read it:", readInParallel(vault, password))
	if len(os.Args) == 2 && os.Args[1] == "--crash" {
		fmt.Println("not stopped:", string(vault.unsafeBytes()[:len(password)]))
	}
	fail(vault.Destroy())
}
