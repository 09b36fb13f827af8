//! Work on a device: streams, events, kernels, graphs.

use std::ffi::{CStr, c_void};

use crate::Refusal;
use crate::driver::{Context, Handle};
use crate::nvrtc::Image;

/// `CU_STREAM_NON_BLOCKING`: it does not wait for the default stream.
const NON_BLOCKING: u32 = 1;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`.
const THREAD_LOCAL: i32 = 1;

/// Work that is done in order.
#[derive(Debug)]
pub struct Stream {
    context: Context,
    handle: Handle,
}

impl Stream {
    /// A new one, beside all others.
    pub fn new(context: &Context) -> Result<Self, Refusal> {
        context.enter()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` outlives the call.
        unsafe { context.driver().cuStreamCreate(&mut handle, NON_BLOCKING) }?;
        Ok(Self { context: context.clone(), handle })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// The context in which it was made.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Waits until its work is done.
    pub fn wait(&self) -> Result<(), Refusal> {
        self.context.enter()?;
        // SAFETY: the stream lives.
        unsafe { self.context.driver().cuStreamSynchronize(self.handle) }
    }

    /// Does what comes after this no sooner than what is before `event`.
    pub fn after(&self, event: &Event) -> Result<(), Refusal> {
        self.context.enter()?;
        // SAFETY: both live; flags must be 0.
        unsafe { self.context.driver().cuStreamWaitEvent(self.handle, event.handle, 0) }
    }

    /// Records what `work` puts on this stream instead of doing it.
    pub fn record(&self, work: impl FnOnce() -> Result<(), Refusal>) -> Result<Graph, Refusal> {
        self.context.enter()?;
        let driver = self.context.driver();
        // SAFETY: the stream lives and records nothing yet.
        unsafe { driver.cuStreamBeginCapture_v2(self.handle, THREAD_LOCAL) }?;
        let done = work();
        let mut graph: Handle = std::ptr::null_mut();
        // SAFETY: recording began above; it must end whether or not the work succeeded.
        let ended = unsafe { driver.cuStreamEndCapture(self.handle, &mut graph) };
        done.and(ended)?;
        let mut executable: Handle = std::ptr::null_mut();
        // SAFETY: the graph is whole.
        let made = unsafe { driver.cuGraphInstantiateWithFlags(&mut executable, graph, 0) };
        // SAFETY: what was made of it does not need it any more.
        let destroyed = unsafe { driver.cuGraphDestroy(graph) };
        made.and(destroyed)?;
        Ok(Graph { context: self.context.clone(), executable })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made once, destroyed once; its work is done nevertheless.
            _ = unsafe { self.context.driver().cuStreamDestroy_v2(self.handle) };
        }
    }
}

/// A moment of a stream.
#[derive(Debug)]
pub struct Event {
    context: Context,
    handle: Handle,
}

impl Event {
    /// A new one, not recorded yet.
    pub fn new(context: &Context) -> Result<Self, Refusal> {
        context.enter()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` outlives the call; without flags it takes the time.
        unsafe { context.driver().cuEventCreate(&mut handle, 0) }?;
        Ok(Self { context: context.clone(), handle })
    }

    /// Sets it to when the stream comes to this point.
    pub fn record(&self, stream: &Stream) -> Result<(), Refusal> {
        self.context.enter()?;
        // SAFETY: both live, in the same context.
        unsafe { self.context.driver().cuEventRecord(self.handle, stream.handle()) }
    }

    /// Waits until it has come.
    pub fn wait(&self) -> Result<(), Refusal> {
        self.context.enter()?;
        // SAFETY: the event lives.
        unsafe { self.context.driver().cuEventSynchronize(self.handle) }
    }

    /// Seconds since an earlier one, as the device counts (half a microsecond is the finest). Both must have come.
    pub fn since(&self, earlier: &Self) -> Result<f64, Refusal> {
        let mut milliseconds: f32 = 0.0;
        // SAFETY: both live; `milliseconds` outlives the call.
        unsafe {
            self.context.driver().cuEventElapsedTime(&mut milliseconds, earlier.handle, self.handle)
        }?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made once, destroyed once.
            _ = unsafe { self.context.driver().cuEventDestroy_v2(self.handle) };
        }
    }
}

/// Compiled code on a device.
#[derive(Debug)]
pub struct Module {
    context: Context,
    handle: Handle,
}

impl Module {
    /// Loads what NVRTC made.
    pub fn load(context: &Context, image: &Image) -> Result<Self, Refusal> {
        context.enter()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: an `Image` is what NVRTC made, whole and with a NUL behind it; CUDA reads its length
        // out of it.
        unsafe { context.driver().cuModuleLoadData(&mut handle, image.bytes().as_ptr().cast()) }?;
        Ok(Self { context: context.clone(), handle })
    }

    /// A kernel of it.
    pub fn kernel(&self, name: &CStr) -> Result<Kernel<'_>, Refusal> {
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is loaded; the name ends with NUL.
        unsafe {
            self.context.driver().cuModuleGetFunction(&mut function, self.handle, name.as_ptr())
        }?;
        Ok(Kernel { module: self, function })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: loaded once, unloaded once; kernels borrow it.
            _ = unsafe { self.context.driver().cuModuleUnload(self.handle) };
        }
    }
}

/// A kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    module: &'a Module,
    function: Handle,
}

impl Kernel<'_> {
    /// Puts it on a stream, with so many blocks of so many threads.
    ///
    /// # Safety
    /// Each argument leads to a value of the type that the kernel takes there, and what the kernel reads and writes
    /// is as long as it thinks and lives until the stream was waited for.
    pub unsafe fn launch(
        &self,
        stream: &Stream,
        blocks: u32,
        threads: u32,
        arguments: &[*const c_void],
    ) -> Result<(), Refusal> {
        self.module.context.enter()?;
        let mut arguments: Vec<*mut c_void> =
            arguments.iter().map(|argument| argument.cast_mut()).collect();
        let none = std::ptr::null_mut();
        // SAFETY: the caller's; CUDA copies the arguments before it returns.
        unsafe {
            self.module.context.driver().cuLaunchKernel(
                self.function,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                stream.handle(),
                arguments.as_mut_ptr(),
                none,
            )
        }
    }
}

/// Recorded work.
#[derive(Debug)]
pub struct Graph {
    context: Context,
    executable: Handle,
}

impl Graph {
    /// Does all of it.
    pub fn launch(&self, stream: &Stream) -> Result<(), Refusal> {
        self.context.enter()?;
        // SAFETY: both live.
        unsafe { self.context.driver().cuGraphLaunch(self.executable, stream.handle()) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made once, destroyed once.
            _ = unsafe { self.context.driver().cuGraphExecDestroy(self.executable) };
        }
    }
}
