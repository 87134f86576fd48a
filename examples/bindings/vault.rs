// SPDX-License-Identifier: MIT
//! A number in guarded memory, in Rust.
//!
//! Guards against: `unsafe` code and C code elsewhere in the process that reaches the number while no
//! scope is open.
//!
//! The trap: rights belong to a thread. A guard that is sent to another thread would be released
//! there, and the memory would stay open here. So the guards below are `!Send`: they hold a raw
//! pointer. For the same reason do not keep one across `.await` where tasks move between threads;
//! being `!Send` makes the compiler say so, too. `--cfg send_guard` compiles a function that makes
//! the mistake, which the compiler refuses.
//!
//! build: rustc -L FOLDER -l pkeyguard vault.rs
//! usage: vault [--crash]    --crash reads the number with no guard open, which kills the process
use std::ffi::c_int;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::{env, io, ptr};

mod sys {
    use std::ffi::{c_int, c_uint, c_void};

    /// struct pkeyguard_guard: 64 bytes, which may be moved.
    #[repr(C)]
    #[derive(Default)]
    pub struct Guard([u64; 8]);

    pub const NO_ACCESS: c_int = 1;
    pub const READ_ONLY: c_int = 2;
    pub const READ_WRITE: c_int = 3;
    pub const PKU: c_int = 1;
    pub const PROT_READ_WRITE: c_int = 3;

    extern "C" {
        pub fn pkeyguard_guard_size() -> usize;
        pub fn pkeyguard_key_create(rights: c_int, flags: c_uint, key: *mut *mut c_void) -> c_int;
        pub fn pkeyguard_key_enforcement(key: *const c_void) -> c_int;
        pub fn pkeyguard_key_destroy(key: *mut c_void) -> c_int;
        pub fn pkeyguard_region_create(
            key: *mut c_void,
            size: usize,
            prot: c_int,
            flags: c_uint,
            region: *mut *mut c_void,
        ) -> c_int;
        pub fn pkeyguard_region_unsafe_address(region: *const c_void) -> *mut c_void;
        pub fn pkeyguard_region_destroy(region: *mut c_void) -> c_int;
        pub fn pkeyguard_acquire(region: *mut c_void, rights: c_int, guard: *mut Guard) -> c_int;
        pub fn pkeyguard_release(guard: *mut Guard);
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

/// A value that can be used only through the guards that `read` and `write` return.
pub struct Vault<T> {
    key: *mut std::ffi::c_void,
    region: *mut std::ffi::c_void,
    value: PhantomData<T>,
}

pub struct ReadGuard<'a, T> {
    guard: sys::Guard,
    value: *const T,
    vault: PhantomData<&'a T>,
}

pub struct WriteGuard<'a, T> {
    guard: sys::Guard,
    value: *mut T,
    vault: PhantomData<&'a mut T>,
}

impl<T: Copy> Vault<T> {
    pub fn new(value: T) -> io::Result<Self> {
        let mut vault = Vault { key: ptr::null_mut(), region: ptr::null_mut(), value: PhantomData };
        unsafe {
            assert_eq!(sys::pkeyguard_guard_size(), std::mem::size_of::<sys::Guard>());
            check(sys::pkeyguard_key_create(sys::NO_ACCESS, 0, &mut vault.key))?;
            check(sys::pkeyguard_region_create(
                vault.key,
                std::mem::size_of::<T>(),
                sys::PROT_READ_WRITE,
                0,
                &mut vault.region,
            ))?;
        }
        *vault.write()? = value;
        Ok(vault)
    }

    pub fn read(&self) -> io::Result<ReadGuard<'_, T>> {
        let mut guard = sys::Guard::default();
        check(unsafe { sys::pkeyguard_acquire(self.region, sys::READ_ONLY, &mut guard) })?;
        Ok(ReadGuard { guard, value: self.unsafe_address(), vault: PhantomData })
    }

    pub fn write(&mut self) -> io::Result<WriteGuard<'_, T>> {
        let mut guard = sys::Guard::default();
        check(unsafe { sys::pkeyguard_acquire(self.region, sys::READ_WRITE, &mut guard) })?;
        Ok(WriteGuard { guard, value: self.unsafe_address(), vault: PhantomData })
    }

    pub fn enforcement(&self) -> &'static str {
        match unsafe { sys::pkeyguard_key_enforcement(self.key) } {
            sys::PKU => "protection keys",
            _ => "mprotect",
        }
    }

    fn unsafe_address(&self) -> *mut T {
        unsafe { sys::pkeyguard_region_unsafe_address(self.region).cast() }
    }
}

/// Destroying wipes the memory. It can fail only for a vault that is still borrowed.
impl<T> Drop for Vault<T> {
    fn drop(&mut self) {
        unsafe {
            if !self.region.is_null() {
                assert_eq!(sys::pkeyguard_region_destroy(self.region), 0);
            }
            if !self.key.is_null() {
                assert_eq!(sys::pkeyguard_key_destroy(self.key), 0);
            }
        }
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        unsafe { &*self.value }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        unsafe { sys::pkeyguard_release(&mut self.guard) }
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        unsafe { &*self.value }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        unsafe { &mut *self.value }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        unsafe { sys::pkeyguard_release(&mut self.guard) }
    }
}

#[cfg(send_guard)]
fn send_a_guard(vault: &'static Vault<u64>) {
    let guard = vault.read().unwrap();
    std::thread::spawn(move || println!("{}", *guard));
}

fn main() -> io::Result<()> {
    let mut vault = Vault::new(41u64)?;

    println!("Rust, enforced by {}", vault.enforcement());
    *vault.write()? += 1;
    println!("read: {}", *vault.read()?);
    if env::args().nth(1).as_deref() == Some("--crash") {
        println!("not stopped: {}", unsafe { vault.unsafe_address().read_volatile() });
    }
    Ok(())
}
