// The C library's sources of randomness, for a program that includes this file (with `#[path]`): a thread with a seed
// (`sim::entropy::seed_thread`) draws from it, any other from the operating system as always.
//
// `getrandom` is what the standard library and getrandom 0.3 and 0.4 call (the latter two look it up by name: build.rs
// exports it); getrandom 0.2, and with it ring, secp256k1 and rand 0.8, goes through `syscall`.
#![allow(unsafe_code)]

use mux_chaos::sim::entropy;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

#[cfg(target_arch = "x86_64")]
const SYS_GETRANDOM: c_long = 318;
#[cfg(target_arch = "aarch64")]
const SYS_GETRANDOM: c_long = 278;

/// The next definition after this program's, in glibc.
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

type GetRandom = unsafe extern "C" fn(*mut c_void, usize, c_uint) -> isize;
type SysCall = unsafe extern "C" fn(c_long, ...) -> c_long;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

static GETRANDOM: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static SYSCALL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// The C library's own function. Not by any lock of the standard library, which would come here again.
fn real(cache: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let known = cache.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    // SAFETY: a constant handle, and a string that ends.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        std::process::abort();
    }
    cache.store(found, Ordering::Release);
    found
}

/// Fills a caller's buffer from the thread's stream, if it has one.
///
/// # Safety
/// `length` bytes at `buffer` may be written, or there are none.
unsafe fn seeded(buffer: *mut c_void, length: usize) -> bool {
    if buffer.is_null() || length == 0 {
        return entropy::fill(&mut []);
    }
    // SAFETY: the caller may not have initialised it, so that is done first.
    let bytes = unsafe {
        std::ptr::write_bytes(buffer.cast::<u8>(), 0, length);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    entropy::fill(bytes)
}

/// As in the C library.
///
/// # Safety
/// `length` bytes at `buffer` may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    // SAFETY: our caller's promise; the type is that of the C library's header.
    unsafe {
        if seeded(buffer, length) {
            return isize::try_from(length).unwrap_or(isize::MAX);
        }
        let real = std::mem::transmute::<*mut c_void, GetRandom>(real(&GETRANDOM, c"getrandom"));
        real(buffer, length, flags)
    }
}

/// As in the C library.
///
/// # Safety
/// `length` bytes at `buffer` may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut c_void, length: usize) -> c_int {
    // SAFETY: our caller's promise.
    let got = unsafe { getrandom(buffer, length, 0) };
    if usize::try_from(got).is_ok_and(|got| got == length) { 0 } else { -1 }
}

/// As in the C library, where it takes any number of arguments: on these architectures they arrive in the same
/// places, and what a caller did not pass is passed on as it was found.
///
/// # Safety
/// That of the system call.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    // SAFETY: our caller's promise; the type is that of the C library's header.
    unsafe {
        if number == SYS_GETRANDOM && seeded(a as *mut c_void, b) {
            return c_long::try_from(b).unwrap_or(c_long::MAX);
        }
        let real = std::mem::transmute::<*mut c_void, SysCall>(real(&SYSCALL, c"syscall"));
        real(number, a, b, c, d, e, f)
    }
}
