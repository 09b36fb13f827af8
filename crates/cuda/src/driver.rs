//! CUDA's driver: `cuInit`, the devices, and a context on one.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::Arc;

use crate::error::absurd;
use crate::library::{Opened, table};
use crate::{Buffer, Kernel, Refusal};

/// More devices than any machine has.
const MOST: c_int = 256;

/// `CUdevice_attribute`.
mod attribute {
    use std::ffi::c_int;
    pub(super) const SM_COUNT: c_int = 16;
    pub(super) const L2_BYTES: c_int = 38;
    pub(super) const MAJOR: c_int = 75;
    pub(super) const MINOR: c_int = 76;
}

/// `CUdeviceptr`.
pub(crate) type Pointer = u64;
/// `CUcontext`, `CUmodule`, `CUfunction`, `CUstream`, `CUevent`, `CUgraph`, `CUgraphExec`.
pub(crate) type Handle = *mut c_void;

table! {
    /// The functions of `libcuda.so.1`.
    Driver, words,
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGet(device: *mut c_int, ordinal: c_int);
    cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int);
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int);
    cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int);
    cuDeviceGetPCIBusId(id: *mut c_char, length: c_int, device: c_int);
    cuDeviceCanAccessPeer(can: *mut c_int, device: c_int, peer: c_int);
    cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int);
    cuDevicePrimaryCtxRelease_v2(device: c_int);
    cuCtxSetCurrent(context: Handle);
    cuCtxSynchronize();
    cuCtxEnablePeerAccess(peer: Handle, flags: c_uint);
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemAlloc_v2(pointer: *mut Pointer, bytes: usize);
    cuMemFree_v2(pointer: Pointer);
    cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemFreeHost(pointer: *mut c_void);
    cuMemcpyHtoD_v2(to: Pointer, from: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2(to: *mut c_void, from: Pointer, bytes: usize);
    cuMemcpyHtoDAsync_v2(to: Pointer, from: *const c_void, bytes: usize, stream: Handle);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: Pointer, bytes: usize, stream: Handle);
    cuMemcpyDtoDAsync_v2(to: Pointer, from: Pointer, bytes: usize, stream: Handle);
    cuMemcpyPeerAsync(
        to: Pointer, to_context: Handle, from: Pointer, from_context: Handle, bytes: usize, stream: Handle,
    );
    cuMemsetD8Async(to: Pointer, value: u8, bytes: usize, stream: Handle);
    cuStreamCreate(stream: *mut Handle, flags: c_uint);
    cuStreamDestroy_v2(stream: Handle);
    cuStreamSynchronize(stream: Handle);
    cuStreamBeginCapture_v2(stream: Handle, mode: c_int);
    cuStreamEndCapture(stream: Handle, graph: *mut Handle);
    cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint);
    cuGraphInstantiateWithFlags(executable: *mut Handle, graph: Handle, flags: u64);
    cuGraphLaunch(executable: Handle, stream: Handle);
    cuGraphExecDestroy(executable: Handle);
    cuGraphDestroy(graph: Handle);
    cuEventCreate(event: *mut Handle, flags: c_uint);
    cuEventDestroy_v2(event: Handle);
    cuEventRecord(event: Handle, stream: Handle);
    cuEventSynchronize(event: Handle);
    cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle);
    cuModuleLoadData(module: *mut Handle, image: *const c_void);
    cuModuleUnload(module: Handle);
    cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char);
    cuLaunchKernel(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, shared_bytes: c_uint, stream: Handle, parameters: *mut *mut c_void, extra: *mut *mut c_void,
    );
}

/// `CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected`.
fn words(library: &Opened, code: c_int) -> Option<String> {
    type Words = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
    let words = |name: &CStr| {
        let function = library.symbol::<Words>(name)?;
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the signature is cuda.h's; `text` outlives the call.
        let known = unsafe { function(code, &mut text) } == 0 && !text.is_null();
        // SAFETY: on success it is a constant of the library, ended by NUL.
        known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    match (words(c"cuGetErrorName"), words(c"cuGetErrorString")) {
        (Some(name), Some(text)) => Some(format!("{name}, {text}")),
        (name, text) => name.or(text),
    }
}

/// CUDA, initialised.
#[derive(Clone, Debug)]
pub struct Cuda {
    driver: Arc<Driver>,
}

/// A device that CUDA shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// CUDA's number for it.
    pub ordinal: i32,
    /// `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Streaming multiprocessors; of a MIG instance its own.
    pub sm_count: u32,
    /// Bytes of the second-level cache.
    pub l2_bytes: u64,
    /// `GPU-` or `MIG-` is not part of it.
    pub uuid: Option<[u8; 16]>,
    /// `0000:1B:00.0`.
    pub bus_id: Option<String>,
}

impl Cuda {
    /// Opens `library` and calls `cuInit`.
    pub fn open(library: &Path) -> Result<Self, Refusal> {
        let driver = Driver::of(Opened::open(library)?);
        // SAFETY: flags must be 0.
        unsafe { driver.cuInit(0) }?;
        Ok(Self { driver: Arc::new(driver) })
    }

    /// The newest CUDA that the driver serves: 13000 is 13.0.
    pub fn version(&self) -> Result<u32, Refusal> {
        let mut number: c_int = 0;
        // SAFETY: `number` outlives the call.
        unsafe { self.driver.cuDriverGetVersion(&mut number) }?;
        u32::try_from(number).map_err(|_| absurd("cuDriverGetVersion", number))
    }

    /// All devices.
    pub fn devices(&self) -> Result<Vec<Device>, Refusal> {
        let mut number: c_int = 0;
        // SAFETY: `number` outlives the call.
        unsafe { self.driver.cuDeviceGetCount(&mut number) }?;
        if !(0..=MOST).contains(&number) {
            return Err(absurd("cuDeviceGetCount", number));
        }
        (0..number).map(|ordinal| self.device(ordinal)).collect()
    }

    fn device(&self, ordinal: c_int) -> Result<Device, Refusal> {
        let handle = self.handle(ordinal)?;
        let mut name: [c_char; 128] = [0; 128];
        // SAFETY: the buffer is as long as said.
        unsafe { self.driver.cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int, handle) }?;
        let mut bytes: usize = 0;
        // SAFETY: `bytes` outlives the call.
        unsafe { self.driver.cuDeviceTotalMem_v2(&mut bytes, handle) }?;
        let mut uuid = [0; 16];
        // SAFETY: a `CUuuid` has 16 bytes.
        let has_uuid = unsafe { self.driver.cuDeviceGetUuid_v2(&mut uuid, handle) }.is_ok();
        let mut bus: [c_char; 32] = [0; 32];
        let has_bus = {
            // SAFETY: the buffer is as long as said.
            unsafe { self.driver.cuDeviceGetPCIBusId(bus.as_mut_ptr(), bus.len() as c_int, handle) }
        };
        let number = |which| self.attribute(which, handle);
        Ok(Device {
            ordinal,
            name: chars(&name),
            capability: (number(attribute::MAJOR)?, number(attribute::MINOR)?),
            memory_bytes: bytes as u64,
            sm_count: number(attribute::SM_COUNT)?,
            l2_bytes: number(attribute::L2_BYTES)?.into(),
            uuid: has_uuid.then_some(uuid),
            bus_id: has_bus.is_ok().then(|| chars(&bus)),
        })
    }

    fn attribute(&self, which: c_int, device: c_int) -> Result<u32, Refusal> {
        let mut value: c_int = 0;
        // SAFETY: `value` outlives the call.
        unsafe { self.driver.cuDeviceGetAttribute(&mut value, which, device) }?;
        u32::try_from(value).map_err(|_| absurd("cuDeviceGetAttribute", value))
    }

    /// `CUdevice` of an ordinal.
    fn handle(&self, ordinal: c_int) -> Result<c_int, Refusal> {
        let mut device: c_int = 0;
        // SAFETY: `device` outlives the call.
        unsafe { self.driver.cuDeviceGet(&mut device, ordinal) }.map(|()| device)
    }

    /// Whether one device reaches another's memory without going through the host's.
    pub fn reaches(&self, device: &Device, peer: &Device) -> Result<bool, Refusal> {
        let (from, to) = (self.handle(device.ordinal)?, self.handle(peer.ordinal)?);
        let mut can: c_int = 0;
        // SAFETY: `can` outlives the call.
        unsafe { self.driver.cuDeviceCanAccessPeer(&mut can, from, to) }.map(|()| can != 0)
    }

    /// The device's primary context, which libraries like cuBLASLt use as well.
    pub fn context(&self, device: &Device) -> Result<Context, Refusal> {
        let handle = self.handle(device.ordinal)?;
        let mut context: Handle = std::ptr::null_mut();
        // SAFETY: `context` outlives the call.
        unsafe { self.driver.cuDevicePrimaryCtxRetain(&mut context, handle) }?;
        let inner = Inner { driver: Arc::clone(&self.driver), device: handle, context };
        let context = Context { inner: Arc::new(inner) };
        context.enter()?;
        Ok(context)
    }
}

/// A retained primary context. What was made in it keeps it alive.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    driver: Arc<Driver>,
    device: c_int,
    context: Handle,
}

// SAFETY: a context may be made current in any thread, and the driver locks what it shares.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: retained once. Nobody could do more about an error here.
        _ = unsafe { self.driver.cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

impl Context {
    pub(crate) fn driver(&self) -> &Driver {
        &self.inner.driver
    }

    pub(crate) fn handle(&self) -> Handle {
        self.inner.context
    }

    /// Makes it this thread's.
    pub fn enter(&self) -> Result<(), Refusal> {
        // SAFETY: the context is retained.
        unsafe { self.driver().cuCtxSetCurrent(self.inner.context) }
    }

    /// Waits until all that was asked of the device is done.
    pub fn wait(&self) -> Result<(), Refusal> {
        self.enter()?;
        // SAFETY: it takes nothing and waits for the current context.
        unsafe { self.driver().cuCtxSynchronize() }
    }

    /// Bytes of memory that are free, and all.
    pub fn memory(&self) -> Result<(u64, u64), Refusal> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both outlive the call.
        unsafe { self.driver().cuMemGetInfo_v2(&mut free, &mut total) }?;
        Ok((free as u64, total as u64))
    }

    /// Lets kernels and copies of this context use another device's memory directly.
    pub fn reach(&self, peer: &Self) -> Result<(), Refusal> {
        /// `CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED`.
        const ALREADY: i32 = 704;
        self.enter()?;
        // SAFETY: both contexts are retained; flags must be 0.
        match unsafe { self.driver().cuCtxEnablePeerAccess(peer.handle(), 0) } {
            Err(Refusal::Call { code: ALREADY, .. }) => Ok(()),
            other => other,
        }
    }

    /// Runs a kernel on the elements of two vectors: `kernel(a, x, y, count)`, which writes `y`.
    pub fn saxpy(
        &self,
        kernel: &Kernel,
        a: f32,
        x: &[f32],
        y: &[f32],
    ) -> Result<Vec<f32>, Refusal> {
        /// Threads of a block: every GPU has them.
        const BLOCK: u32 = 256;
        let length = x.len().min(y.len());
        let count = c_int::try_from(length).map_err(|_| absurd("saxpy", length))?;
        let there_x = Buffer::of(self, &x[..length])?;
        let there_y = Buffer::of(self, &y[..length])?;
        let stream = crate::Stream::new(self)?;
        let blocks = u32::try_from(length).map_err(|_| absurd("saxpy", length))?.div_ceil(BLOCK);
        // SAFETY: the kernel takes (float, const float *, float *, int), as NVRTC compiled it; both buffers
        // hold `count` floats.
        unsafe {
            kernel.launch(
                &stream,
                blocks,
                BLOCK,
                &[
                    (&raw const a).cast(),
                    there_x.argument(),
                    there_y.argument(),
                    (&raw const count).cast(),
                ],
            )
        }?;
        stream.wait()?;
        there_y.read()
    }
}

fn chars(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> =
        bytes.iter().map(|char| *char as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
