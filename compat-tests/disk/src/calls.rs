//! The functions of libc that are made here instead.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use crate::{Operation, obey_file, obey_path, sync};

/// libc's own function of a name, looked up once.
struct Real {
    name: &'static std::ffi::CStr,
    found: AtomicPtr<c_void>,
}

impl Real {
    const fn new(name: &'static std::ffi::CStr) -> Real {
        Real {
            name,
            found: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn get(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string, and the loader may be asked from any thread.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        assert!(!found.is_null(), "libc has no {:?}", self.name);
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

fn fail(error: c_int) {
    // SAFETY: libc gives a pointer to this thread's own.
    unsafe { *libc::__errno_location() = error };
}

/// Replaces functions by ones that first ask the rules with `$ask`, then call libc's.
macro_rules! replace {
    ($($name:ident ($($arg:ident: $type:ty),*) -> $result:ty, $ask:expr;)*) => {$(
        /// In place of libc's.
        ///
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> $result {
            static REAL: Real = Real::new({
                // SAFETY: one zero byte, at the end.
                unsafe { std::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) }
            });
            #[allow(clippy::redundant_closure_call, unused_unsafe)]
            // SAFETY: by the caller.
            if let Err(error) = unsafe { $ask } {
                fail(error);
                return -1;
            }
            // SAFETY: libc's function of this name has this type.
            let real: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(REAL.get()) };
            // SAFETY: by the caller.
            unsafe { real($($arg),*) }
        }
    )*};
}

use Operation::{Read, Write};

replace! {
    read(fd: c_int, buffer: *mut c_void, size: size_t) -> ssize_t, obey_file(Read, fd);
    pread(fd: c_int, buffer: *mut c_void, size: size_t, at: off_t) -> ssize_t, obey_file(Read, fd);
    pread64(fd: c_int, buffer: *mut c_void, size: size_t, at: off_t) -> ssize_t, obey_file(Read, fd);
    preadv64v2(fd: c_int, slices: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t, obey_file(Read, fd);
    sendfile(to: c_int, fd: c_int, at: *mut off_t, size: size_t) -> ssize_t, obey_file(Read, fd);
    sendfile64(to: c_int, fd: c_int, at: *mut off_t, size: size_t) -> ssize_t, obey_file(Read, fd);
    write(fd: c_int, buffer: *const c_void, size: size_t) -> ssize_t, obey_file(Write, fd);
    pwrite(fd: c_int, buffer: *const c_void, size: size_t, at: off_t) -> ssize_t, obey_file(Write, fd);
    pwrite64(fd: c_int, buffer: *const c_void, size: size_t, at: off_t) -> ssize_t, obey_file(Write, fd);
    writev(fd: c_int, slices: *const iovec, count: c_int) -> ssize_t, obey_file(Write, fd);
    pwritev(fd: c_int, slices: *const iovec, count: c_int, at: off_t) -> ssize_t, obey_file(Write, fd);
    pwritev64(fd: c_int, slices: *const iovec, count: c_int, at: off_t) -> ssize_t, obey_file(Write, fd);
    ftruncate(fd: c_int, size: off_t) -> c_int, obey_file(Write, fd);
    ftruncate64(fd: c_int, size: off_t) -> c_int, obey_file(Write, fd);
    // The mode is there where the flags ask for it; elsewhere it is not looked at.
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, obey_path(path);
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, obey_path(path);
    mkdir(path: *const c_char, mode: mode_t) -> c_int, obey_path(path);
    rename(from: *const c_char, to: *const c_char) -> c_int, obey_path(from);
    unlink(path: *const c_char) -> c_int, obey_path(path);
}

macro_rules! replace_syncs {
    ($($name:ident)*) => {$(
        /// In place of libc's.
        ///
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(fd: c_int) -> c_int {
            static REAL: Real = Real::new({
                // SAFETY: one zero byte, at the end.
                unsafe { std::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) }
            });
            if let Err(error) = obey_file(Operation::Sync, fd) {
                fail(error);
                return -1;
            }
            if sync(fd) {
                return 0;
            }
            // SAFETY: libc's function of this name has this type.
            let real: unsafe extern "C" fn(c_int) -> c_int = unsafe { std::mem::transmute(REAL.get()) };
            // SAFETY: by the caller.
            unsafe { real(fd) }
        }
    )*};
}

replace_syncs! { fsync fdatasync }
