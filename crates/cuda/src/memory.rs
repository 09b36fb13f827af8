//! Memory of a device, and pinned memory of the host.

use std::ffi::c_void;

use crate::driver::{Context, Pointer};
use crate::{Refusal, Stream};

/// Values that are the same bytes here and on a device.
pub trait Plain: Copy + Default + 'static {}
impl Plain for u8 {}
impl Plain for i8 {}
impl Plain for u16 {}
impl Plain for i32 {}
impl Plain for f32 {}
impl Plain for f64 {}

/// Memory of a device.
#[derive(Debug)]
pub struct Buffer {
    context: Context,
    pointer: Pointer,
    bytes: usize,
}

impl Buffer {
    /// So many bytes, of any content.
    pub fn new(context: &Context, bytes: usize) -> Result<Self, Refusal> {
        context.enter()?;
        let mut pointer: Pointer = 0;
        // SAFETY: `pointer` outlives the call. CUDA gives none of 0 bytes.
        unsafe { context.driver().cuMemAlloc_v2(&mut pointer, bytes.max(1)) }?;
        Ok(Self { context: context.clone(), pointer, bytes })
    }

    /// A copy of these values.
    pub fn of<T: Plain>(context: &Context, values: &[T]) -> Result<Self, Refusal> {
        let buffer = Self::new(context, size_of_val(values))?;
        // SAFETY: `values` has so many bytes.
        unsafe { buffer.upload(values.as_ptr().cast(), size_of_val(values)) }?;
        Ok(buffer)
    }

    /// Copies from ordinary memory, and waits until all has arrived: the call itself returns when the rest is in a buffer
    /// on its way (CUDA driver API, "API synchronization behavior"), and our streams don't wait for that.
    ///
    /// # Safety
    /// `from` has so many bytes, and so has this buffer.
    unsafe fn upload(&self, from: *const c_void, bytes: usize) -> Result<(), Refusal> {
        self.context.enter()?;
        // SAFETY: the caller's.
        unsafe { self.context.driver().cuMemcpyHtoD_v2(self.pointer, from, bytes) }?;
        self.context.wait()
    }

    /// All of it; bytes that make no whole value are left out.
    pub fn read<T: Plain>(&self) -> Result<Vec<T>, Refusal> {
        self.first(usize::MAX)
    }

    /// The first values of it: so many, or as many as there are.
    pub fn first<T: Plain>(&self, count: usize) -> Result<Vec<T>, Refusal> {
        self.context.enter()?;
        let mut values = vec![T::default(); count.min(self.bytes / size_of::<T>())];
        let bytes = size_of_val(&*values);
        // SAFETY: `values` has so many bytes, the buffer no fewer.
        unsafe {
            self.context.driver().cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), self.pointer, bytes)
        }?;
        Ok(values)
    }

    /// Writes these values from ordinary memory to its beginning, as far as both go.
    pub fn write<T: Plain>(&self, values: &[T]) -> Result<(), Refusal> {
        // SAFETY: both sides have so many bytes.
        unsafe { self.upload(values.as_ptr().cast(), size_of_val(values).min(self.bytes)) }
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the same byte everywhere.
    pub fn fill(&self, stream: &Stream, value: u8) -> Result<(), Refusal> {
        self.context.enter()?;
        // SAFETY: the buffer has so many bytes.
        unsafe {
            self.context.driver().cuMemsetD8Async(self.pointer, value, self.bytes, stream.handle())
        }
    }

    /// Copies the first bytes of another buffer of the same device; no more than both have.
    pub fn copy_from(&self, other: &Self, stream: &Stream) -> Result<usize, Refusal> {
        self.context.enter()?;
        let bytes = self.bytes.min(other.bytes);
        // SAFETY: both buffers have so many bytes.
        unsafe {
            self.context.driver().cuMemcpyDtoDAsync_v2(
                self.pointer,
                other.pointer,
                bytes,
                stream.handle(),
            )
        }?;
        Ok(bytes)
    }

    /// Copies from a buffer of another device.
    pub fn copy_from_peer(&self, other: &Self, stream: &Stream) -> Result<usize, Refusal> {
        self.context.enter()?;
        let bytes = self.bytes.min(other.bytes);
        // SAFETY: both buffers have so many bytes, in the contexts named.
        unsafe {
            self.context.driver().cuMemcpyPeerAsync(
                self.pointer,
                self.context.handle(),
                other.pointer,
                other.context.handle(),
                bytes,
                stream.handle(),
            )
        }?;
        Ok(bytes)
    }

    /// The pointer's own place, as an argument of a kernel.
    pub fn argument(&self) -> *const c_void {
        (&raw const self.pointer).cast()
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer as *mut c_void
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated once, freed once; work that still uses it is waited for by CUDA.
            _ = unsafe { self.context.driver().cuMemFree_v2(self.pointer) };
        }
    }
}

/// Memory of the host that stays where it is, so that a device can read it without a copy in between.
#[derive(Debug)]
pub struct Pinned {
    context: Context,
    pointer: *mut c_void,
    bytes: usize,
}

impl Pinned {
    /// So many bytes, all 0.
    pub fn new(context: &Context, bytes: usize) -> Result<Self, Refusal> {
        context.enter()?;
        let mut pointer = std::ptr::null_mut();
        // SAFETY: `pointer` outlives the call; without flags it is plain pinned memory.
        unsafe { context.driver().cuMemHostAlloc(&mut pointer, bytes.max(1), 0) }?;
        // SAFETY: as many bytes were given.
        unsafe { std::ptr::write_bytes(pointer.cast::<u8>(), 0, bytes) };
        Ok(Self { context: context.clone(), pointer, bytes })
    }

    /// What it holds. Nothing may still be copied to it.
    pub fn read(&self) -> &[u8] {
        // SAFETY: it was allocated with so many bytes, and written when it was made.
        unsafe { std::slice::from_raw_parts(self.pointer.cast(), self.bytes) }
    }

    /// Writes these bytes to its beginning, as far as both go.
    pub fn write(&mut self, bytes: &[u8]) {
        // SAFETY: as above, and nobody else has it.
        let all: &mut [u8] =
            unsafe { std::slice::from_raw_parts_mut(self.pointer.cast(), self.bytes) };
        all.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    }

    /// Copies it to a device; no more than both have.
    pub fn send(&self, to: &Buffer, stream: &Stream) -> Result<usize, Refusal> {
        to.context.enter()?;
        let bytes = self.bytes.min(to.bytes);
        // SAFETY: both sides have so many bytes, and both live until the stream was waited for.
        unsafe {
            self.context.driver().cuMemcpyHtoDAsync_v2(
                to.pointer,
                self.pointer,
                bytes,
                stream.handle(),
            )
        }?;
        Ok(bytes)
    }

    /// Copies from a device.
    pub fn receive(&self, from: &Buffer, stream: &Stream) -> Result<usize, Refusal> {
        from.context.enter()?;
        let bytes = self.bytes.min(from.bytes);
        // SAFETY: as in `send`.
        unsafe {
            self.context.driver().cuMemcpyDtoHAsync_v2(
                self.pointer,
                from.pointer,
                bytes,
                stream.handle(),
            )
        }?;
        Ok(bytes)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated once, freed once.
            _ = unsafe { self.context.driver().cuMemFreeHost(self.pointer) };
        }
    }
}
