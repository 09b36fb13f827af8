//! cuDNN: a convolution forward, by each algorithm that its heuristics offer.
//!
//! Signatures and numbers: NVIDIA's public `cudnn_ops.h` and `cudnn_cnn.h` of cuDNN 9; those of 8 are the same.

use std::ffi::{c_int, c_void};
use std::fmt;

use crate::error::absurd;
use crate::library::{Opened, table};
use crate::{Buffer, Context, Places, Refusal, Stream};

/// The library's names.
pub const NAMES: &[&str] = &["libcudnn.so.9", "libcudnn.so.8"];

/// `cudnnConvolutionFwdAlgoPerf_t`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Offered {
    algorithm: c_int,
    status: c_int,
    milliseconds: f32,
    bytes: usize,
    determinism: c_int,
    math: c_int,
    reserved: [c_int; 3],
}

type Object = *mut c_void;

table! {
    /// The functions of `libcudnn.so`.
    Functions, words,
    cudnnCreate(handle: *mut Object);
    cudnnDestroy(handle: Object);
    cudnnSetStream(handle: Object, stream: *mut c_void);
    cudnnGetProperty(which: c_int, value: *mut c_int);
    cudnnCreateTensorDescriptor(tensor: *mut Object);
    cudnnSetTensor4dDescriptor(
        tensor: Object, order: c_int, kind: c_int, n: c_int, c: c_int, h: c_int, w: c_int,
    );
    cudnnDestroyTensorDescriptor(tensor: Object);
    cudnnCreateFilterDescriptor(filter: *mut Object);
    cudnnSetFilter4dDescriptor(
        filter: Object, kind: c_int, order: c_int, k: c_int, c: c_int, h: c_int, w: c_int,
    );
    cudnnDestroyFilterDescriptor(filter: Object);
    cudnnCreateConvolutionDescriptor(convolution: *mut Object);
    cudnnSetConvolution2dDescriptor(
        convolution: Object, pad_h: c_int, pad_w: c_int, stride_h: c_int, stride_w: c_int, dilation_h: c_int,
        dilation_w: c_int, mode: c_int, compute: c_int,
    );
    cudnnSetConvolutionMathType(convolution: Object, math: c_int);
    cudnnDestroyConvolutionDescriptor(convolution: Object);
    cudnnGetConvolutionForwardAlgorithm_v7(
        handle: Object, x: Object, w: Object, convolution: Object, y: Object, most: c_int, count: *mut c_int,
        offered: *mut Offered,
    );
    cudnnConvolutionForward(
        handle: Object, alpha: *const c_void, x_is: Object, x: *const c_void, w_is: Object, w: *const c_void,
        convolution: Object, algorithm: c_int, workspace: *mut c_void, bytes: usize, beta: *const c_void,
        y_is: Object, y: *mut c_void,
    );
}

fn words(library: &Opened, code: c_int) -> Option<String> {
    library.words(c"cudnnGetErrorString", code)
}

/// `cudnnDataType_t`.
const FLOAT: c_int = 0;
const BF16: c_int = 9;
/// `CUDNN_TENSOR_NHWC`: the channels of a pixel lie together, as tensor cores want them.
const NHWC: c_int = 1;
/// `CUDNN_CROSS_CORRELATION`, which is what deep learning calls a convolution.
const CROSS_CORRELATION: c_int = 1;
/// `CUDNN_TENSOR_OP_MATH`.
const TENSOR_CORES: c_int = 1;
/// `CUDNN_CONVOLUTION_FWD_ALGO_COUNT`.
const ALGORITHMS: usize = 8;

/// Images of `pixels` by `pixels`, a filter of `filter` by `filter` with a stride of one, and the edges padded so
/// that the result is as large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub count: u32,
    /// Their width and height.
    pub pixels: u32,
    /// Channels that go in, and come out.
    pub channels: (u32, u32),
    /// The filter's width and height, odd.
    pub filter: u32,
}

impl Images {
    /// Multiplications and additions; those with the padding count, as everybody counts them.
    pub fn operations(&self) -> f64 {
        let area = |side: u32| f64::from(side) * f64::from(side);
        let results = f64::from(self.count) * area(self.pixels) * f64::from(self.channels.1);
        2.0 * results * area(self.filter) * f64::from(self.channels.0)
    }
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, pixels, channels: (from, to), filter } = self;
        write!(
            f,
            "{count} images of {pixels}x{pixels}, {from} to {to} channels, filter {filter}x{filter}"
        )
    }
}

/// One of the algorithms that were offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm {
    number: c_int,
    math: c_int,
    bytes: usize,
}

/// A convolution in BF16 that adds up in FP32.
pub struct Convolution {
    functions: Functions,
    context: Context,
    handle: Object,
    tensors: [Object; 2],
    filter: Object,
    convolution: Object,
}

impl Convolution {
    /// Of these images.
    pub fn new(places: &Places, context: &Context, images: Images) -> Result<Self, Refusal> {
        let functions = Functions::of(places.open(NAMES)?);
        context.enter()?;
        let nothing = std::ptr::null_mut();
        let mut this = Self {
            functions,
            context: context.clone(),
            handle: nothing,
            tensors: [nothing; 2],
            filter: nothing,
            convolution: nothing,
        };
        let length = |number: u32| c_int::try_from(number).map_err(|_| absurd("images", number));
        let (count, pixels) = (length(images.count)?, length(images.pixels)?);
        let (from, to) = (length(images.channels.0)?, length(images.channels.1)?);
        let (filter, edge) = (length(images.filter)?, length(images.filter / 2)?);
        let functions = &this.functions;
        // SAFETY: each object is made before it is described, and all numbers are the library's own.
        unsafe {
            functions.cudnnCreate(&mut this.handle)?;
            for (tensor, channels) in this.tensors.iter_mut().zip([from, to]) {
                functions.cudnnCreateTensorDescriptor(tensor)?;
                functions.cudnnSetTensor4dDescriptor(
                    *tensor, NHWC, BF16, count, channels, pixels, pixels,
                )?;
            }
            functions.cudnnCreateFilterDescriptor(&mut this.filter)?;
            functions.cudnnSetFilter4dDescriptor(
                this.filter,
                BF16,
                NHWC,
                to,
                from,
                filter,
                filter,
            )?;
            functions.cudnnCreateConvolutionDescriptor(&mut this.convolution)?;
            functions.cudnnSetConvolution2dDescriptor(
                this.convolution,
                edge,
                edge,
                1,
                1,
                1,
                1,
                CROSS_CORRELATION,
                FLOAT,
            )?;
            functions.cudnnSetConvolutionMathType(this.convolution, TENSOR_CORES)?;
        }
        Ok(this)
    }

    /// `9.26.0`, if the library says it.
    pub fn version(&self) -> Option<String> {
        let mut parts = [0; 3];
        for (which, part) in (0..).zip(&mut parts) {
            // SAFETY: `part` outlives the call; 0 to 2 are `libraryPropertyType`'s.
            unsafe { self.functions.cudnnGetProperty(which, part) }.ok()?;
        }
        Some(parts.map(|part| part.to_string()).join("."))
    }

    /// The algorithms that there are for it, the best by the library's word first.
    pub fn algorithms(&self) -> Result<Vec<Algorithm>, Refusal> {
        self.context.enter()?;
        let mut offered = [Offered::default(); ALGORITHMS];
        let mut count = 0;
        // SAFETY: there is room for as many as are asked for.
        unsafe {
            self.functions.cudnnGetConvolutionForwardAlgorithm_v7(
                self.handle,
                self.tensors[0],
                self.filter,
                self.convolution,
                self.tensors[1],
                ALGORITHMS as c_int,
                &mut count,
                offered.as_mut_ptr(),
            )
        }?;
        let count = usize::try_from(count).unwrap_or_default();
        let possible = offered.iter().take(count).filter(|offered| offered.status == 0);
        Ok(possible
            .map(|offered| Algorithm {
                number: offered.algorithm,
                math: offered.math,
                bytes: offered.bytes,
            })
            .collect())
    }

    /// What an algorithm works with.
    pub fn workspace(&self, algorithm: &Algorithm) -> Result<Buffer, Refusal> {
        Buffer::new(&self.context, algorithm.bytes)
    }

    /// Puts it on a stream: images `x`, the filter `w` (output channel, row, column, input channel), and the result
    /// `y`, channels last.
    pub fn run(
        &self,
        algorithm: &Algorithm,
        (x, w, y): (&Buffer, &Buffer, &Buffer),
        workspace: &Buffer,
        stream: &Stream,
    ) -> Result<(), Refusal> {
        self.context.enter()?;
        let (one, zero) = (1f32, 0f32);
        // SAFETY: the buffers hold what the descriptors say (the caller's word) and live until the stream was
        // waited for; the workspace is as large as the algorithm asks.
        unsafe {
            self.functions.cudnnSetStream(self.handle, stream.handle())?;
            self.functions.cudnnSetConvolutionMathType(self.convolution, algorithm.math)?;
            self.functions.cudnnConvolutionForward(
                self.handle,
                (&raw const one).cast(),
                self.tensors[0],
                x.pointer(),
                self.filter,
                w.pointer(),
                self.convolution,
                algorithm.number,
                workspace.pointer(),
                algorithm.bytes,
                (&raw const zero).cast(),
                self.tensors[1],
                y.pointer(),
            )
        }
    }
}

impl Drop for Convolution {
    fn drop(&mut self) {
        // SAFETY: what was made is given back once; the handle goes last.
        unsafe {
            if !self.convolution.is_null() {
                _ = self.functions.cudnnDestroyConvolutionDescriptor(self.convolution);
            }
            if !self.filter.is_null() {
                _ = self.functions.cudnnDestroyFilterDescriptor(self.filter);
            }
            for tensor in self.tensors.into_iter().filter(|tensor| !tensor.is_null()) {
                _ = self.functions.cudnnDestroyTensorDescriptor(tensor);
            }
            if !self.handle.is_null() {
                _ = self.functions.cudnnDestroy(self.handle);
            }
        }
    }
}
