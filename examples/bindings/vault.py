#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A password that lies in guarded memory, in Python with ctypes.

Guards against: other C code in the process, such as an extension module or a ctypes call with a
wrong pointer, that reads the password while nothing uses it.

The trap: no scope may stay open while other Python code runs. In a generator or a coroutine a
`with` block stays open across `yield` and `await`, and another coroutine runs with its rights. So
this class has no `with` block: each call of the library opens the region, copies and closes it.
The copy is a Python object, which cannot be wiped; hold it for a moment only.

usage: vault.py [--crash]    LD_LIBRARY_PATH may name the library's folder
  --crash  reads the memory with no guard open, which kills the process
"""
import ctypes
import mmap
import os
import sys

library = ctypes.CDLL("libpkeyguard.so.0.2")
PKEYGUARD_NO_ACCESS = 1
PKEYGUARD_PKU = 1


def declare(name, result, *arguments):
    function = getattr(library, name)
    function.restype = result
    function.argtypes = arguments
    return function


pointer, pointer_to_pointer = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
key_create = declare("pkeyguard_key_create", ctypes.c_int, ctypes.c_int, ctypes.c_uint,
                     pointer_to_pointer)
key_enforcement = declare("pkeyguard_key_enforcement", ctypes.c_int, pointer)
key_destroy = declare("pkeyguard_key_destroy", ctypes.c_int, pointer)
region_create = declare("pkeyguard_region_create", ctypes.c_int, pointer, ctypes.c_size_t,
                        ctypes.c_int, ctypes.c_uint, pointer_to_pointer)
region_read = declare("pkeyguard_region_read", ctypes.c_int, pointer, ctypes.c_size_t, pointer,
                      ctypes.c_size_t)
region_write = declare("pkeyguard_region_write", ctypes.c_int, pointer, ctypes.c_size_t, pointer,
                       ctypes.c_size_t)
region_unsafe_address = declare("pkeyguard_region_unsafe_address", pointer, pointer)
region_destroy = declare("pkeyguard_region_destroy", ctypes.c_int, pointer)


def check(result):
    if result < 0:
        raise OSError(-result, os.strerror(-result))


class Vault:
    """Bytes that only read() and write() can reach."""

    def __init__(self, size):
        self._key, self._region = pointer(), pointer()
        check(key_create(PKEYGUARD_NO_ACCESS, 0, ctypes.byref(self._key)))
        check(region_create(self._key, size, mmap.PROT_READ | mmap.PROT_WRITE, 0,
                            ctypes.byref(self._region)))

    def write(self, data, offset=0):
        check(region_write(self._region, offset, data, len(data)))

    def read(self, size, offset=0):
        copy = ctypes.create_string_buffer(size)
        check(region_read(self._region, offset, copy, size))
        return copy.raw

    def enforcement(self):
        return "protection keys" if key_enforcement(self._key) == PKEYGUARD_PKU else "mprotect"

    def unsafe_address(self):
        return region_unsafe_address(self._region)

    def destroy(self):
        check(region_destroy(self._region))
        check(key_destroy(self._key))


def main():
    vault = Vault(64)
    print("Python, enforced by", vault.enforcement())
    vault.write(b"correct horse")
    print("read:", vault.read(13).decode())
    try:
        vault.read(64, offset=1)
    except OSError as error:
        print("reading past the end:", error.strerror)
    sys.stdout.flush()
    if sys.argv[1:] == ["--crash"]:
        print("not stopped:", ctypes.string_at(vault.unsafe_address(), 13))
    vault.destroy()


main()
