//! cuBLASLt: products of matrices, with the algorithm of one's choice.
//!
//! Signatures, numbers and layouts: NVIDIA's public `cublasLt.h`, `cublas_api.h`, `library_types.h` (cuBLAS
//! documentation, "Using the cuBLASLt API").

use std::ffi::{c_int, c_void};
use std::path::Path;

use crate::error::absurd;
use crate::library::{Opened, table};
use crate::{Buffer, Context, Places, Refusal, Stream};

/// The library's names, the newest first.
pub const NAMES: &[&str] = &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11"];

/// `cublasLtHandle_t`, `cublasLtMatmulDesc_t`, `cublasLtMatrixLayout_t`, `cublasLtMatmulPreference_t`.
type Handle = *mut c_void;

table! {
    /// The functions of `libcublasLt.so`.
    Functions, words,
    cublasLtCreate(handle: *mut Handle);
    cublasLtDestroy(handle: Handle);
    cublasLtMatmulDescCreate(operation: *mut Handle, compute: c_int, scale: c_int);
    cublasLtMatmulDescDestroy(operation: Handle);
    cublasLtMatmulDescSetAttribute(operation: Handle, which: c_int, value: *const c_void, bytes: usize);
    cublasLtMatrixLayoutCreate(layout: *mut Handle, kind: c_int, rows: u64, columns: u64, leading: i64);
    cublasLtMatrixLayoutDestroy(layout: Handle);
    cublasLtMatmulPreferenceCreate(preference: *mut Handle);
    cublasLtMatmulPreferenceDestroy(preference: Handle);
    cublasLtMatmulPreferenceSetAttribute(
        preference: Handle, which: c_int, value: *const c_void, bytes: usize,
    );
    cublasLtMatmulAlgoGetHeuristic(
        handle: Handle, operation: Handle, a: Handle, b: Handle, c: Handle, d: Handle, preference: Handle,
        wanted: c_int, results: *mut Heuristic, found: *mut c_int,
    );
    cublasLtMatmul(
        handle: Handle, operation: Handle, alpha: *const c_void, a: *const c_void, a_layout: Handle,
        b: *const c_void, b_layout: Handle, beta: *const c_void, c: *const c_void, c_layout: Handle,
        d: *mut c_void, d_layout: Handle, algorithm: *const Algorithm, workspace: *mut c_void,
        workspace_bytes: usize, stream: *mut c_void,
    );
}

fn words(library: &Opened, code: c_int) -> Option<String> {
    library.words(c"cublasLtGetStatusString", code)
}

/// How the numbers of a product are written and added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 64-bit floating point throughout.
    Fp64,
    /// 32-bit floating point throughout; no tensor cores.
    Fp32,
    /// 32-bit numbers, of which tensor cores read 19 bits.
    Tf32,
    /// 16-bit (5-bit exponent) to 16-bit, added up in 32.
    Fp16,
    /// 16-bit (8-bit exponent) to 16-bit, added up in 32.
    Bf16,
    /// 8-bit (4-bit exponent) to BF16, added up fast (with fewer bits than 32).
    Fp8E4m3,
    /// 8-bit (5-bit exponent) by 8-bit (4-bit exponent), as gradients are, to BF16.
    Fp8E5m2,
    /// 8-bit whole numbers to 32-bit ones, exactly.
    Int8,
}

/// `cudaDataType_t`, `cublasComputeType_t`.
struct Codes {
    a: c_int,
    b: c_int,
    d: c_int,
    compute: c_int,
    scale: c_int,
    /// 1 in the type of the scale, little-endian.
    one: [u8; 8],
}

impl Precision {
    fn codes(self) -> Codes {
        let one = |bytes: &[u8]| {
            let mut all = [0; 8];
            all.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
            all
        };
        let (float, double, whole) =
            (one(&1f32.to_le_bytes()), one(&1f64.to_le_bytes()), one(&1i32.to_le_bytes()));
        let (a, b, d, compute, scale, one) = match self {
            Self::Fp64 => (1, 1, 1, 70, 1, double),
            Self::Fp32 => (0, 0, 0, 68, 0, float),
            Self::Tf32 => (0, 0, 0, 77, 0, float),
            Self::Fp16 => (2, 2, 2, 68, 0, float),
            Self::Bf16 => (14, 14, 14, 68, 0, float),
            Self::Fp8E4m3 => (28, 28, 14, 68, 0, float),
            Self::Fp8E5m2 => (29, 28, 14, 68, 0, float),
            Self::Int8 => (3, 3, 10, 72, 10, whole),
        };
        Codes { a, b, d, compute, scale, one }
    }

    /// Bytes of an element that is read.
    pub fn input_bytes(self) -> usize {
        match self {
            Self::Fp64 => 8,
            Self::Fp32 | Self::Tf32 => 4,
            Self::Fp16 | Self::Bf16 => 2,
            Self::Fp8E4m3 | Self::Fp8E5m2 | Self::Int8 => 1,
        }
    }

    /// Bytes of an element of the result.
    pub fn output_bytes(self) -> usize {
        match self {
            Self::Fp64 => 8,
            Self::Fp32 | Self::Tf32 | Self::Int8 => 4,
            Self::Fp16 | Self::Bf16 | Self::Fp8E4m3 | Self::Fp8E5m2 => 2,
        }
    }
}

/// `D = A * B`: A has `m` rows, B and D `n` columns, A `k` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of the result.
    pub m: u64,
    /// Columns of the result.
    pub n: u64,
    /// Length of the sums.
    pub k: u64,
}

impl Shape {
    /// Multiplications and additions.
    pub fn operations(self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}x{}x{}", self.m, self.n, self.k)
    }
}

/// `cublasLtMatmulAlgo_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Algorithm {
    data: [u64; 8],
}

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heuristic {
    algorithm: Algorithm,
    workspace_bytes: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

/// `cublasLtMatmulDescAttributes_t`.
const TRANSPOSE_A: c_int = 3;
const FAST_ACCUMULATION: c_int = 25;
/// `CUBLAS_OP_T`.
static TRANSPOSED: i32 = 1;
/// An `int8_t` that says yes.
static YES: i8 = 1;
/// `CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES`.
const MAX_WORKSPACE: c_int = 1;

/// cuBLASLt on one device.
#[derive(Debug)]
pub struct Blas {
    functions: Functions,
    context: Context,
    handle: Handle,
    workspace: Buffer,
}

impl Blas {
    /// Opens the library for a device, with so many bytes for algorithms that need some.
    pub fn open(
        places: &Places,
        context: &Context,
        workspace_bytes: usize,
    ) -> Result<Self, Refusal> {
        let functions = Functions::of(places.open(NAMES)?);
        let workspace = Buffer::new(context, workspace_bytes)?;
        let mut handle = std::ptr::null_mut();
        context.enter()?;
        // SAFETY: `handle` outlives the call; the context is current.
        unsafe { functions.cublasLtCreate(&mut handle) }?;
        Ok(Self { functions, context: context.clone(), handle, workspace })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.functions.library.path
    }

    /// 130002 is 13.0.2.
    pub fn version(&self) -> Option<usize> {
        type Version = unsafe extern "C" fn() -> usize;
        let version = self.functions.library.symbol::<Version>(c"cublasLtGetVersion")?;
        // SAFETY: `size_t cublasLtGetVersion(void)`.
        Some(unsafe { version() })
    }

    /// A product of this shape. A is given by its columns' transpose (`k` by `m`), B by its columns (`k` by `n`): the one
    /// form that all precisions have.
    pub fn product(&self, precision: Precision, shape: Shape) -> Result<Product<'_>, Refusal> {
        let codes = precision.codes();
        let mut product = Product {
            blas: self,
            codes,
            operation: std::ptr::null_mut(),
            layouts: [std::ptr::null_mut(); 3],
        };
        let functions = &self.functions;
        let codes = &product.codes;
        // SAFETY: `operation` outlives the call.
        unsafe {
            functions.cublasLtMatmulDescCreate(&mut product.operation, codes.compute, codes.scale)
        }?;
        let set = |which, value: *const c_void, bytes| {
            // SAFETY: `value` has so many bytes.
            unsafe {
                functions.cublasLtMatmulDescSetAttribute(product.operation, which, value, bytes)
            }
        };
        set(TRANSPOSE_A, (&raw const TRANSPOSED).cast(), size_of::<i32>())?;
        if matches!(precision, Precision::Fp8E4m3 | Precision::Fp8E5m2) {
            set(FAST_ACCUMULATION, (&raw const YES).cast(), 1)?;
        }
        let Shape { m, n, k } = shape;
        let leading = |rows: u64| i64::try_from(rows).map_err(|_| absurd("a matrix", rows));
        let sides = [(codes.a, k, m), (codes.b, k, n), (codes.d, m, n)];
        for ((kind, rows, columns), layout) in sides.into_iter().zip(&mut product.layouts) {
            let leading = leading(rows)?;
            // SAFETY: `layout` outlives the call.
            unsafe { functions.cublasLtMatrixLayoutCreate(layout, kind, rows, columns, leading) }?;
        }
        Ok(product)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made once, destroyed once.
            _ = unsafe { self.functions.cublasLtDestroy(self.handle) };
        }
    }
}

/// A product that can be computed.
pub struct Product<'a> {
    blas: &'a Blas,
    codes: Codes,
    operation: Handle,
    layouts: [Handle; 3],
}

impl Product<'_> {
    /// The algorithms that cuBLASLt's heuristics offer, the one it takes for best first.
    pub fn algorithms(&self, most: usize) -> Result<Vec<Algorithm>, Refusal> {
        let functions = &self.blas.functions;
        self.blas.context.enter()?;
        let mut preference = std::ptr::null_mut();
        // SAFETY: `preference` outlives the call.
        unsafe { functions.cublasLtMatmulPreferenceCreate(&mut preference) }?;
        let bytes = self.blas.workspace.bytes();
        let [a, b, d] = self.layouts;
        let mut results = vec![Heuristic::default(); most];
        let mut found: c_int = 0;
        // SAFETY: the value is a size_t; the handles live; there are as many places as are asked for.
        let asked = unsafe {
            functions
                .cublasLtMatmulPreferenceSetAttribute(
                    preference,
                    MAX_WORKSPACE,
                    (&raw const bytes).cast(),
                    size_of::<usize>(),
                )
                .and_then(|()| {
                    functions.cublasLtMatmulAlgoGetHeuristic(
                        self.blas.handle,
                        self.operation,
                        a,
                        b,
                        d,
                        d,
                        preference,
                        c_int::try_from(most).unwrap_or(c_int::MAX),
                        results.as_mut_ptr(),
                        &mut found,
                    )
                })
        };
        // SAFETY: made above, destroyed once.
        _ = unsafe { functions.cublasLtMatmulPreferenceDestroy(preference) };
        asked?;
        results.truncate(usize::try_from(found).unwrap_or(0));
        Ok(results.iter().filter(|one| one.state == 0).map(|one| one.algorithm).collect())
    }

    /// Puts it on a stream. The buffers must be as large as the shape says.
    pub fn run(
        &self,
        algorithm: &Algorithm,
        (a, b, d): (&Buffer, &Buffer, &Buffer),
        stream: &Stream,
    ) -> Result<(), Refusal> {
        self.blas.context.enter()?;
        let zero = [0u8; 8];
        let [a_layout, b_layout, d_layout] = self.layouts;
        let workspace = &self.blas.workspace;
        // SAFETY: the buffers hold the matrices (the caller's word), all handles live, and alpha and beta are
        // numbers of the scale's type that CUDA copies before it returns.
        unsafe {
            self.blas.functions.cublasLtMatmul(
                self.blas.handle,
                self.operation,
                self.codes.one.as_ptr().cast(),
                a.pointer(),
                a_layout,
                b.pointer(),
                b_layout,
                zero.as_ptr().cast(),
                d.pointer(),
                d_layout,
                d.pointer(),
                d_layout,
                algorithm,
                workspace.pointer(),
                workspace.bytes(),
                stream.handle(),
            )
        }
    }
}

impl Drop for Product<'_> {
    fn drop(&mut self) {
        let functions = &self.blas.functions;
        for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
            // SAFETY: made once, destroyed once.
            _ = unsafe { functions.cublasLtMatrixLayoutDestroy(layout) };
        }
        if !self.operation.is_null() {
            // SAFETY: as above.
            _ = unsafe { functions.cublasLtMatmulDescDestroy(self.operation) };
        }
    }
}
