//! cuSPARSELt: products with a matrix of which two in every four numbers are zero.
//!
//! Signatures and numbers: NVIDIA's public `cusparseLt.h` and `cusparse.h`. The compute types were numbered
//! otherwise before 0.5, which is refused.

use std::ffi::{c_int, c_void};

use crate::blas::Shape;
use crate::error::absurd;
use crate::library::{Opened, table};
use crate::{Buffer, Context, Places, Refusal, Stream};

/// The library's names.
pub const NAMES: &[&str] = &["libcusparseLt.so.0"];

/// The opaque structures have 512 bytes since 0.8 and had 11,024 before.
#[repr(C, align(64))]
pub(crate) struct Opaque([u8; 12 << 10]);

impl Opaque {
    fn new() -> Box<Self> {
        Box::new(Self([0; 12 << 10]))
    }
}

table! {
    /// The functions of `libcusparseLt.so`.
    Functions, words,
    cusparseLtInit(handle: *mut Opaque);
    cusparseLtDestroy(handle: *const Opaque);
    cusparseLtGetVersion(handle: *const Opaque, version: *mut c_int);
    cusparseLtDenseDescriptorInit(
        handle: *const Opaque, matrix: *mut Opaque, rows: i64, columns: i64, leading: i64, alignment: u32,
        kind: c_int, order: c_int,
    );
    cusparseLtStructuredDescriptorInit(
        handle: *const Opaque, matrix: *mut Opaque, rows: i64, columns: i64, leading: i64, alignment: u32,
        kind: c_int, order: c_int, sparsity: c_int,
    );
    cusparseLtMatDescriptorDestroy(matrix: *const Opaque);
    cusparseLtMatmulDescriptorInit(
        handle: *const Opaque, product: *mut Opaque, a_operation: c_int, b_operation: c_int, a: *const Opaque,
        b: *const Opaque, c: *const Opaque, d: *const Opaque, compute: c_int,
    );
    cusparseLtMatmulAlgSelectionInit(
        handle: *const Opaque, selection: *mut Opaque, product: *const Opaque, algorithm: c_int,
    );
    cusparseLtMatmulPlanInit(
        handle: *const Opaque, plan: *mut Opaque, product: *const Opaque, selection: *const Opaque,
    );
    cusparseLtMatmulPlanDestroy(plan: *const Opaque);
    cusparseLtMatmulGetWorkspace(handle: *const Opaque, plan: *const Opaque, bytes: *mut usize);
    cusparseLtSpMMAPrune(
        handle: *const Opaque, product: *const Opaque, from: *const c_void, to: *mut c_void, how: c_int,
        stream: *mut c_void,
    );
    cusparseLtSpMMACompressedSize(
        handle: *const Opaque, plan: *const Opaque, bytes: *mut usize, room_bytes: *mut usize,
    );
    cusparseLtSpMMACompress(
        handle: *const Opaque, plan: *const Opaque, from: *const c_void, to: *mut c_void, room: *mut c_void,
        stream: *mut c_void,
    );
    cusparseLtMatmulSearch(
        handle: *const Opaque, plan: *mut Opaque, alpha: *const c_void, a: *const c_void, b: *const c_void,
        beta: *const c_void, c: *const c_void, d: *mut c_void, workspace: *mut c_void, streams: *mut *mut c_void,
        count: i32,
    );
    cusparseLtMatmul(
        handle: *const Opaque, plan: *const Opaque, alpha: *const c_void, a: *const c_void, b: *const c_void,
        beta: *const c_void, c: *const c_void, d: *mut c_void, workspace: *mut c_void, streams: *mut *mut c_void,
        count: i32,
    );
}

fn words(library: &Opened, code: c_int) -> Option<String> {
    library.words(c"cusparseLtGetErrorString", code)
}

/// `cudaDataType_t` of BF16.
const BF16: c_int = 14;
/// `CUSPARSE_ORDER_COL`.
const BY_COLUMNS: c_int = 1;
/// `CUSPARSE_OPERATION_NON_TRANSPOSE`, `CUSPARSE_OPERATION_TRANSPOSE`.
const AS_IS: c_int = 0;
const TRANSPOSED: c_int = 1;
/// `CUSPARSE_COMPUTE_32F` since 0.5.
const COMPUTE_32F: c_int = 2;
/// `CUSPARSELT_PRUNE_SPMMA_STRIP`: of every four numbers in a row the two largest stay.
const STRIP: c_int = 1;
/// The oldest version whose numbers these are.
const OLDEST: c_int = 500;

/// A BF16 product whose first matrix is sparse, planned and compressed.
pub struct SparseProduct {
    functions: Functions,
    context: Context,
    handle: Box<Opaque>,
    matrices: Vec<Box<Opaque>>,
    plan: Box<Opaque>,
    planned: bool,
    compressed: Buffer,
    workspace: Buffer,
    version: i32,
}

impl SparseProduct {
    /// Prunes `a` in place (`k` by `m`, by columns), compresses it, and searches for the best algorithm for the
    /// shape; `b` and `d` are as in [`crate::blas::Blas::product`].
    pub fn new(
        places: &Places,
        context: &Context,
        shape: Shape,
        (a, b, d): (&Buffer, &Buffer, &Buffer),
        stream: &Stream,
    ) -> Result<Self, Refusal> {
        let functions = Functions::of(places.open(NAMES)?);
        context.enter()?;
        let mut handle = Opaque::new();
        // SAFETY: there is more room than any version's structure has.
        unsafe { functions.cusparseLtInit(&mut *handle) }?;
        let nothing = Buffer::new(context, 0)?;
        let mut this = Self {
            functions,
            context: context.clone(),
            handle,
            matrices: Vec::new(),
            plan: Opaque::new(),
            planned: false,
            compressed: Buffer::new(context, 0)?,
            workspace: nothing,
            version: 0,
        };
        let functions = this.functions.clone();
        let handle: *const Opaque = &*this.handle;
        // SAFETY: `version` outlives the call.
        unsafe { functions.cusparseLtGetVersion(handle, &mut this.version) }?;
        if this.version < OLDEST {
            return Err(absurd("cusparseLtGetVersion", this.version));
        }
        let length = |number: u64| i64::try_from(number).map_err(|_| absurd("a matrix", number));
        let (m, n, k) = (length(shape.m)?, length(shape.n)?, length(shape.k)?);
        for (number, (rows, columns)) in [(k, m), (k, n), (m, n)].into_iter().enumerate() {
            let mut matrix = Opaque::new();
            // SAFETY: there is room for the structure; the numbers describe a matrix by columns.
            unsafe {
                match number {
                    0 => functions.cusparseLtStructuredDescriptorInit(
                        handle,
                        &mut *matrix,
                        rows,
                        columns,
                        rows,
                        16,
                        BF16,
                        BY_COLUMNS,
                        0,
                    ),
                    _ => functions.cusparseLtDenseDescriptorInit(
                        handle,
                        &mut *matrix,
                        rows,
                        columns,
                        rows,
                        16,
                        BF16,
                        BY_COLUMNS,
                    ),
                }
            }?;
            this.matrices.push(matrix);
        }
        let matrix = |number: usize| {
            this.matrices.get(number).map_or(std::ptr::null(), |matrix| &raw const **matrix)
        };
        let (mut product, mut selection) = (Opaque::new(), Opaque::new());
        // SAFETY: all structures are initialised in this order, and have the room.
        unsafe {
            functions.cusparseLtMatmulDescriptorInit(
                handle,
                &mut *product,
                TRANSPOSED,
                AS_IS,
                matrix(0),
                matrix(1),
                matrix(2),
                matrix(2),
                COMPUTE_32F,
            )?;
            functions.cusparseLtMatmulAlgSelectionInit(handle, &mut *selection, &*product, 0)?;
            functions.cusparseLtMatmulPlanInit(handle, &mut *this.plan, &*product, &*selection)?;
        }
        this.planned = true;
        let (mut bytes, mut room_bytes) = (0, 0);
        // SAFETY: the plan is made; both numbers outlive the call.
        unsafe {
            functions.cusparseLtSpMMACompressedSize(
                handle,
                &*this.plan,
                &mut bytes,
                &mut room_bytes,
            )
        }?;
        this.compressed = Buffer::new(context, bytes)?;
        let room = Buffer::new(context, room_bytes)?;
        // SAFETY: `a` holds the matrix (the caller's word), the others as many bytes as were asked for.
        unsafe {
            functions.cusparseLtSpMMAPrune(
                handle,
                &*product,
                a.pointer(),
                a.pointer(),
                STRIP,
                stream.handle(),
            )?;
            functions.cusparseLtSpMMACompress(
                handle,
                &*this.plan,
                a.pointer(),
                this.compressed.pointer(),
                room.pointer(),
                stream.handle(),
            )?;
        }
        stream.wait()?;
        let (one, zero, mut streams) = (1f32, 0f32, [stream.handle()]);
        // SAFETY: as in `run`. The library allocates what the search needs.
        unsafe {
            functions.cusparseLtMatmulSearch(
                handle,
                &mut *this.plan,
                (&raw const one).cast(),
                this.compressed.pointer(),
                b.pointer(),
                (&raw const zero).cast(),
                d.pointer(),
                d.pointer(),
                std::ptr::null_mut(),
                streams.as_mut_ptr(),
                1,
            )
        }?;
        let mut bytes = 0;
        // SAFETY: `bytes` outlives the call.
        unsafe { functions.cusparseLtMatmulGetWorkspace(handle, &*this.plan, &mut bytes) }?;
        this.workspace = Buffer::new(context, bytes)?;
        Ok(this)
    }

    /// 800 is 0.8.0.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Puts it on a stream.
    pub fn run(&self, b: &Buffer, d: &Buffer, stream: &Stream) -> Result<(), Refusal> {
        self.context.enter()?;
        let (one, zero, mut streams) = (1f32, 0f32, [stream.handle()]);
        // SAFETY: the buffers hold the matrices (the caller's word) and live until the stream was waited for; the
        // workspace is as large as the plan asks.
        unsafe {
            self.functions.cusparseLtMatmul(
                &*self.handle,
                &*self.plan,
                (&raw const one).cast(),
                self.compressed.pointer(),
                b.pointer(),
                (&raw const zero).cast(),
                d.pointer(),
                d.pointer(),
                self.workspace.pointer(),
                streams.as_mut_ptr(),
                1,
            )
        }
    }
}

impl Drop for SparseProduct {
    fn drop(&mut self) {
        // SAFETY: each was initialised once; the handle goes last.
        unsafe {
            if self.planned {
                _ = self.functions.cusparseLtMatmulPlanDestroy(&*self.plan);
            }
            for matrix in &self.matrices {
                _ = self.functions.cusparseLtMatDescriptorDestroy(&**matrix);
            }
            _ = self.functions.cusparseLtDestroy(&*self.handle);
        }
    }
}
