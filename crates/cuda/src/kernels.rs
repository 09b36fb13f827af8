//! Kernels that move memory, as source that NVRTC compiles on the spot, and their launches.

use std::ffi::CStr;

use crate::{Buffer, Kernel, Refusal, Stream};

/// All of them. Accesses have 16 bytes, four of them in flight for each thread; the grid strides over the arrays.
pub const SOURCE: &CStr = cr#"
typedef unsigned long long u64;

extern "C" __global__ void nothing() {}

__device__ __forceinline__ unsigned sum(uint4 v) { return v.x + v.y + v.z + v.w; }

extern "C" __global__ void read_all(const uint4 *x, u64 n, unsigned *out) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x, stride = gridDim.x * (u64)blockDim.x;
    unsigned s = 0;
    for (; i + 3 * stride < n; i += 4 * stride) {
        uint4 a = __ldcs(x + i), b = __ldcs(x + i + stride);
        uint4 c = __ldcs(x + i + 2 * stride), d = __ldcs(x + i + 3 * stride);
        s += sum(a) + sum(b) + sum(c) + sum(d);
    }
    for (; i < n; i += stride) s += sum(x[i]);
    for (int offset = 16; offset > 0; offset /= 2) s += __shfl_down_sync(0xffffffffu, s, offset);
    if (threadIdx.x % 32 == 0) atomicAdd(out, s);
}

extern "C" __global__ void read_again(const uint4 *x, u64 n, u64 rounds, unsigned *out) {
    u64 stride = gridDim.x * (u64)blockDim.x;
    unsigned s = 0;
    for (u64 round = 0; round < rounds; round++) {
        u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x;
        for (; i + 3 * stride < n; i += 4 * stride) {
            uint4 a = __ldcg(x + i), b = __ldcg(x + i + stride);
            uint4 c = __ldcg(x + i + 2 * stride), d = __ldcg(x + i + 3 * stride);
            s += sum(a) + sum(b) + sum(c) + sum(d);
        }
        for (; i < n; i += stride) s += sum(__ldcg(x + i));
        s = s * 31 + 1;
    }
    for (int offset = 16; offset > 0; offset /= 2) s += __shfl_down_sync(0xffffffffu, s, offset);
    if (threadIdx.x % 32 == 0) atomicAdd(out, s);
}

extern "C" __global__ void write_all(uint4 *y, u64 n, unsigned value) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x, stride = gridDim.x * (u64)blockDim.x;
    uint4 v = make_uint4(value, value, value, value);
    for (; i + 3 * stride < n; i += 4 * stride) {
        __stcs(y + i, v); __stcs(y + i + stride, v); __stcs(y + i + 2 * stride, v); __stcs(y + i + 3 * stride, v);
    }
    for (; i < n; i += stride) y[i] = v;
}

extern "C" __global__ void differ(const uint4 *x, const uint4 *y, u64 n, u64 *out) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x, stride = gridDim.x * (u64)blockDim.x;
    unsigned different = 0, same = 0;
    for (; i < n; i += stride) {
        uint4 a = __ldcs(x + i), b = __ldcs(y + i);
        bool other = a.x != b.x || a.y != b.y || a.z != b.z || a.w != b.w;
        different += other;
        same += !other;
    }
    for (int offset = 16; offset > 0; offset /= 2) same += __shfl_down_sync(0xffffffffu, same, offset);
    if (different != 0) atomicAdd(out, (u64)different);
    if (threadIdx.x % 32 == 0) atomicAdd(out + 1, (u64)same);
}

extern "C" __global__ void copy_all(const uint4 *x, uint4 *y, u64 n) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x, stride = gridDim.x * (u64)blockDim.x;
    for (; i + 3 * stride < n; i += 4 * stride) {
        uint4 a = __ldcs(x + i), b = __ldcs(x + i + stride);
        uint4 c = __ldcs(x + i + 2 * stride), d = __ldcs(x + i + 3 * stride);
        __stcs(y + i, a); __stcs(y + i + stride, b); __stcs(y + i + 2 * stride, c); __stcs(y + i + 3 * stride, d);
    }
    for (; i < n; i += stride) y[i] = x[i];
}

__device__ __forceinline__ float4 axpy(float4 b, float s, float4 c) {
    return make_float4(b.x + s * c.x, b.y + s * c.y, b.z + s * c.z, b.w + s * c.w);
}

extern "C" __global__ void triad(float4 *a, const float4 *b, const float4 *c, float s, u64 n) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x, stride = gridDim.x * (u64)blockDim.x;
    for (; i + stride < n; i += 2 * stride) {
        float4 b0 = __ldcs(b + i), c0 = __ldcs(c + i);
        float4 b1 = __ldcs(b + i + stride), c1 = __ldcs(c + i + stride);
        __stcs(a + i, axpy(b0, s, c0));
        __stcs(a + i + stride, axpy(b1, s, c1));
    }
    for (; i < n; i += stride) a[i] = axpy(b[i], s, c[i]);
}
"#;

/// Blocks and threads of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks.
    pub blocks: u32,
    /// Threads of each; a multiple of 32.
    pub threads: u32,
}

/// Of how many units of 16 bytes a buffer is.
fn units(buffer: &Buffer) -> u64 {
    (buffer.bytes() / 16) as u64
}

/// How many units of 16 bytes `differ` compares in a buffer.
pub fn compared(buffer: &Buffer) -> u64 {
    units(buffer)
}

/// `nothing`.
pub fn nothing(kernel: &Kernel, stream: &Stream) -> Result<(), Refusal> {
    // SAFETY: it takes nothing.
    unsafe { kernel.launch(stream, 1, 32, &[]) }
}

/// `read_all`: adds the sum of all to `out`'s one number.
pub fn read_all(
    kernel: &Kernel,
    stream: &Stream,
    grid: Grid,
    x: &Buffer,
    out: &Buffer,
) -> Result<(), Refusal> {
    let n = units(x);
    // SAFETY: the types are those of the source; x has n units, out one number.
    unsafe {
        kernel.launch(
            stream,
            grid.blocks,
            grid.threads,
            &[x.argument(), (&raw const n).cast(), out.argument()],
        )
    }
}

/// What one launch of `read_again` adds to its number: each thread has the sum of its part, and `s * 31 + 1` of that and what
/// it had before, in each round; `sum` is that of all parts.
pub fn read_again_adds(grid: Grid, rounds: u64, sum: u32) -> u32 {
    let (mut times, mut more) = (0u32, 0u32);
    for _ in 0..rounds {
        times = times.wrapping_add(1).wrapping_mul(31);
        more = more.wrapping_mul(31).wrapping_add(1);
    }
    let threads = grid.blocks.wrapping_mul(grid.threads);
    times.wrapping_mul(sum).wrapping_add(more.wrapping_mul(threads))
}

/// `read_again`: adds [`read_again_adds`] to `out`'s one number.
pub fn read_again(
    kernel: &Kernel,
    stream: &Stream,
    grid: Grid,
    (x, rounds): (&Buffer, u64),
    out: &Buffer,
) -> Result<(), Refusal> {
    let n = units(x);
    // SAFETY: as above.
    unsafe {
        kernel.launch(
            stream,
            grid.blocks,
            grid.threads,
            &[x.argument(), (&raw const n).cast(), (&raw const rounds).cast(), out.argument()],
        )
    }
}

/// `write_all`.
pub fn write_all(
    kernel: &Kernel,
    stream: &Stream,
    grid: Grid,
    y: &Buffer,
    value: u32,
) -> Result<(), Refusal> {
    let n = units(y);
    // SAFETY: the types are those of the source; y has n units.
    unsafe {
        kernel.launch(
            stream,
            grid.blocks,
            grid.threads,
            &[y.argument(), (&raw const n).cast(), (&raw const value).cast()],
        )
    }
}

/// `differ`: adds how many units of 16 bytes are not the same to the first of `out`'s two 64-bit numbers, and how many are to the
/// second: what compares nothing finds nothing different either.
pub fn differ(
    kernel: &Kernel,
    stream: &Stream,
    grid: Grid,
    (x, y): (&Buffer, &Buffer),
    out: &Buffer,
) -> Result<(), Refusal> {
    let n = units(x).min(units(y));
    // SAFETY: the types are those of the source; both have n units, out two numbers.
    unsafe {
        kernel.launch(
            stream,
            grid.blocks,
            grid.threads,
            &[x.argument(), y.argument(), (&raw const n).cast(), out.argument()],
        )
    }
}

/// `copy_all`.
pub fn copy_all(
    kernel: &Kernel,
    stream: &Stream,
    grid: Grid,
    x: &Buffer,
    y: &Buffer,
) -> Result<(), Refusal> {
    let n = units(x).min(units(y));
    // SAFETY: the types are those of the source; both have n units.
    unsafe {
        kernel.launch(
            stream,
            grid.blocks,
            grid.threads,
            &[x.argument(), y.argument(), (&raw const n).cast()],
        )
    }
}

/// `triad`: a = b + s * c.
pub fn triad(
    kernel: &Kernel,
    stream: &Stream,
    grid: Grid,
    (a, b, c): (&Buffer, &Buffer, &Buffer),
    s: f32,
) -> Result<(), Refusal> {
    let n = units(a).min(units(b)).min(units(c));
    // SAFETY: the types are those of the source; all have n units.
    unsafe {
        kernel.launch(
            stream,
            grid.blocks,
            grid.threads,
            &[
                a.argument(),
                b.argument(),
                c.argument(),
                (&raw const s).cast(),
                (&raw const n).cast(),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each thread by itself, as the source has it.
    #[test]
    fn what_a_launch_adds_is_what_its_threads_add() {
        let grid = Grid { blocks: 3, threads: 32 };
        let parts: Vec<u32> = (0..96u32).map(|thread| thread.wrapping_mul(2_654_435_761)).collect();
        for rounds in [0, 1, 2, 200] {
            let one = |part: &u32| {
                (0..rounds)
                    .fold(0u32, |s, _| s.wrapping_add(*part).wrapping_mul(31).wrapping_add(1))
            };
            let all = parts.iter().map(one).fold(0, u32::wrapping_add);
            let sum = parts.iter().copied().fold(0, u32::wrapping_add);
            assert_eq!(read_again_adds(grid, rounds, sum), all, "{rounds}");
        }
    }
}
