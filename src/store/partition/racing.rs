//! Memory that others may be changing while it is read: what readers without a lock copy, and what is written where one of them may
//! still be reading.
//!
//! Rust knows no race between plain accesses, and no reference to memory that changes. So there are neither here: a field is read and
//! written as an atomic of its own size, bytes are moved by an instruction of the processor that the compiler does not look into, or
//! word by word as atomics. What was read is believed only after the bucket was found unchanged (`super::buckets`), before which an
//! acquire fence stands.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Shorter copies are made word by word, if both sides are aligned; of the others those that are shorter than an eighth of it.
const SHORT: usize = 128;

/// A field that others may be changing.
pub trait Field: Copy {
    /// Its value.
    ///
    /// # Safety
    /// `at` is an aligned field in memory that lives as long as the process.
    unsafe fn get(at: *mut Self) -> Self;
    /// Sets it.
    ///
    /// # Safety
    /// As above.
    unsafe fn set(at: *mut Self, value: Self);
}

macro_rules! field {
    ($($type:ty, $atomic:ident, $plain:ty;)*) => {$(
        impl Field for $type {
            #[inline(always)]
            unsafe fn get(at: *mut Self) -> Self {
                // SAFETY: the caller's.
                unsafe { std::sync::atomic::$atomic::from_ptr(at.cast::<$plain>()) }
                    .load(Ordering::Relaxed) as $type
            }
            #[inline(always)]
            unsafe fn set(at: *mut Self, value: Self) {
                // SAFETY: the caller's.
                unsafe { std::sync::atomic::$atomic::from_ptr(at.cast::<$plain>()) }
                    .store(value as $plain, Ordering::Relaxed)
            }
        }
    )*};
}
field! {
    u64, AtomicU64, u64;
    u32, AtomicU32, u32;
    u8, AtomicU8, u8;
}

/// Copies bytes. Either side may be memory that others read or change.
///
/// # Safety
/// `length` bytes lie at both places, which do not overlap.
#[inline(always)]
pub unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    let aligned = from.cast::<u64>().is_aligned() && to.cast::<u64>().is_aligned();
    // SAFETY: the caller's.
    unsafe {
        if length >= SHORT || length >= SHORT / 8 && !aligned {
            return copy_long(from, to, length);
        }
        let mut at = 0;
        while aligned && at + 8 <= length {
            let word = AtomicU64::from_ptr(from.add(at).cast_mut().cast()).load(Ordering::Relaxed);
            AtomicU64::from_ptr(to.add(at).cast()).store(word, Ordering::Relaxed);
            at += 8;
        }
        while at < length {
            let byte = AtomicU8::from_ptr(from.add(at).cast_mut()).load(Ordering::Relaxed);
            AtomicU8::from_ptr(to.add(at)).store(byte, Ordering::Relaxed);
            at += 1;
        }
    }
}

/// Whether the bytes at `at` are `bytes`.
///
/// # Safety
/// As many lie there.
#[inline(always)]
pub unsafe fn equals(at: *const u8, bytes: &[u8]) -> bool {
    let (with, length) = (bytes.as_ptr(), bytes.len());
    let aligned = at.cast::<u64>().is_aligned();
    let mut done = 0;
    // SAFETY: the caller's.
    unsafe {
        while aligned && done + 8 <= length {
            let word = AtomicU64::from_ptr(at.add(done).cast_mut().cast()).load(Ordering::Relaxed);
            if word != with.add(done).cast::<u64>().read_unaligned() {
                return false;
            }
            done += 8;
        }
        while done < length {
            let byte = AtomicU8::from_ptr(at.add(done).cast_mut()).load(Ordering::Relaxed);
            if byte != *with.add(done) {
                return false;
            }
            done += 1;
        }
    }
    true
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn copy_long(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's; the direction flag is clear, as the calling convention has it.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") length => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_long(from: *const u8, to: *mut u8, length: usize) {
    for at in 0..length {
        // SAFETY: the caller's.
        unsafe {
            let byte = AtomicU8::from_ptr(from.add(at).cast_mut()).load(Ordering::Relaxed);
            AtomicU8::from_ptr(to.add(at)).store(byte, Ordering::Relaxed);
        }
    }
}

/// Bytes that [`copy_fixed`] copies.
pub const FIXED: usize = 88;

/// Copies the fixed fields of an entry.
///
/// # Safety
/// As [`copy`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn copy_fixed(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        std::arch::asm!(
            "movdqu {a}, [{from}]",
            "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]",
            "movdqu {d}, [{from} + 48]",
            "movdqu {e}, [{from} + 64]",
            "mov {f}, [{from} + 80]",
            "movdqu [{to}], {a}",
            "movdqu [{to} + 16], {b}",
            "movdqu [{to} + 32], {c}",
            "movdqu [{to} + 48], {d}",
            "movdqu [{to} + 64], {e}",
            "mov [{to} + 80], {f}",
            from = in(reg) from,
            to = in(reg) to,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            e = out(xmm_reg) _,
            f = out(reg) _,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub unsafe fn copy_fixed(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's.
    unsafe { copy(from, to, FIXED) }
}
