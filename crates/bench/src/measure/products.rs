//! Products of matrices through cuBLASLt.

mod check;

use std::time::{Duration, Instant};

use sconce_cuda::blas::{Algorithm, Blas, Precision, Product, Shape};
use sconce_cuda::{Buffer, Context, Device, Refusal, Stream};

use super::clock::{Clock, Lies, Times, Turn};
use super::random::{Chance, Kind, Pool};
use super::{Bench, Effort, Fault, Order, timed};
use crate::answer::Figure;
pub(super) use check::{Done, check_bf16, right};
use check::{Timed, check_timed};

/// A precision, the first capability that has it in hardware, and how far a sum may be off.
struct Row {
    figure: &'static str,
    precision: Precision,
    from: (u32, u32),
    /// Allowed error, in units of the root of the summed squares of the products: what rounding adds up to by chance
    /// grows with it, and a wrong number is off by about 1.
    error: f64,
    /// Allowed error as a share of the result: the rounding of what is written.
    rounding: f64,
}

const BF16: Row =
    Row { figure: "bf16", precision: Precision::Bf16, from: (8, 0), error: 1e-3, rounding: 8e-3 };

const ROWS: &[Row] = &[
    Row { figure: "fp64", precision: Precision::Fp64, from: (0, 0), error: 1e-12, rounding: 1e-14 },
    Row { figure: "fp32", precision: Precision::Fp32, from: (0, 0), error: 1e-4, rounding: 1e-6 },
    Row { figure: "tf32", precision: Precision::Tf32, from: (8, 0), error: 1e-2, rounding: 1e-3 },
    Row { figure: "fp16", precision: Precision::Fp16, from: (7, 0), error: 1e-3, rounding: 1e-3 },
    BF16,
    Row { figure: "fp8", precision: Precision::Fp8E4m3, from: (8, 9), error: 5e-2, rounding: 8e-3 },
    Row {
        figure: "fp8-e5m2",
        precision: Precision::Fp8E5m2,
        from: (8, 9),
        error: 5e-2,
        rounding: 8e-3,
    },
    Row { figure: "int8", precision: Precision::Int8, from: (7, 5), error: 0.0, rounding: 0.0 },
];

/// The shapes: squares and long ones that fill the GPU; two are the best of public sweeps (stas00/ml-engineering,
/// "Maximum Achievable Matmul FLOPS": H100 BF16 2048x2048x13312, FP8 1024x9216x14336).
const SHAPES: &[Shape] = &[
    Shape { m: 8192, n: 8192, k: 8192 },
    Shape { m: 4096, n: 4096, k: 4096 },
    Shape { m: 2048, n: 2048, k: 13312 },
    Shape { m: 1024, n: 9216, k: 14336 },
    Shape { m: 4096, n: 8192, k: 16384 },
    Shape { m: 16384, n: 8192, k: 8192 },
    Shape { m: 16384, n: 16384, k: 4096 },
    Shape { m: 8192, n: 16384, k: 14336 },
];

/// Where others have taken the memory, the largest of these that fits.
const SQUARES: &[Shape] = &[
    Shape { m: 8192, n: 8192, k: 8192 },
    Shape { m: 4096, n: 4096, k: 4096 },
    Shape { m: 2048, n: 2048, k: 2048 },
    Shape { m: 1024, n: 1024, k: 1024 },
];

/// The largest square in BF16 that fits twice into the free memory; the smallest, where none does.
pub(super) fn square(context: &Context) -> Result<Shape, Refusal> {
    let (free, _) = context.memory()?;
    let bytes = |s: &Shape| (s.m * s.k + s.n * s.k + s.m * s.n) * 2;
    let fits = SQUARES.iter().find(|shape| bytes(shape) * 2 < free).or(SQUARES.last());
    Ok(fits.copied().unwrap_or(SHAPES[0]))
}

/// Bytes that algorithms may work with: cuBLAS recommends 32 MiB for Hopper.
pub(super) const WORKSPACE: usize = 64 << 20;
/// The best found for a precision.
struct Best {
    shape: Shape,
    algorithm: Algorithm,
    number: usize,
    of: usize,
    seconds: f64,
}

pub(super) fn measure(bench: &mut Bench) {
    for (device, context) in bench.gpus.clone() {
        let gpu = [Bench::number(&device)];
        let blas = match Blas::open(bench.order.places, &context, WORKSPACE) {
            Ok(blas) => blas,
            Err(refusal) => {
                for row in ROWS.iter().filter(|row| bench.order.wants(row.figure)) {
                    bench.answer(row.figure, &gpu, Instant::now(), Err(refusal.clone().into()));
                }
                continue;
            }
        };
        for row in ROWS {
            let sustained = row.figure == "bf16" && bench.order.wants("bf16-sustained");
            if device.capability < row.from || !(bench.order.wants(row.figure) || sustained) {
                continue;
            }
            let mut begun = Instant::now();
            let found = one(row, &blas, &device, &context, bench.order, &mut begun);
            let best = match found {
                Ok((figure, best)) => {
                    if bench.order.wants(row.figure) {
                        bench.answer(row.figure, &gpu, begun, Ok(figure));
                    }
                    best
                }
                Err(fault) => {
                    if !bench.order.wants(row.figure) {
                        bench.answer("bf16-sustained", &gpu, begun, Err(fault));
                        continue;
                    }
                    bench.answer(row.figure, &gpu, begun, Err(fault));
                    if sustained {
                        let reason = "it takes shape and algorithm of `bf16`, which has no figure";
                        let without = Fault::Without(reason.to_owned());
                        bench.answer("bf16-sustained", &gpu, begun, Err(without));
                    }
                    continue;
                }
            };
            if sustained {
                let mut begun = Instant::now();
                let found = sustain(row, &blas, &context, &best, bench.order, &mut begun);
                bench.answer("bf16-sustained", &gpu, begun, found);
            }
        }
    }
}

/// The matrices of one precision: as large as the largest shape needs.
pub(super) struct Matrices {
    a: Pool,
    b: Pool,
    pub(super) there: (Buffer, Buffer),
    pub(super) d: Buffer,
    /// Where the last launch of what is timed writes.
    pub(super) last: Buffer,
}

impl Matrices {
    pub(super) fn new(
        precision: Precision,
        shapes: &[Shape],
        context: &Context,
        seed: u64,
    ) -> Result<Self, Refusal> {
        let most = |side: fn(&Shape) -> u64| shapes.iter().map(side).max().unwrap_or(0) as usize;
        let mut chance = Chance::new(seed);
        let a = Pool::new(Kind::of_a(precision), most(|s| s.m * s.k), &mut chance);
        let b = Pool::new(Kind::of_b(precision), most(|s| s.n * s.k), &mut chance);
        let there = (Buffer::of(context, a.bytes())?, Buffer::of(context, b.bytes())?);
        let output = || Buffer::new(context, most(|s| s.m * s.n) * precision.output_bytes());
        Ok(Self { a, b, there, d: output()?, last: output()? })
    }

    /// The work of a timed group.
    fn turn(
        &self,
        product: &Product,
        algorithm: &Algorithm,
        stream: &Stream,
        turn: Turn,
    ) -> Result<(), Refusal> {
        let d = match turn {
            Turn::Before => return self.poison(stream),
            Turn::One => &self.d,
            Turn::Last => &self.last,
        };
        product.run(algorithm, (&self.there.0, &self.there.1, d), stream)
    }

    fn poison(&self, stream: &Stream) -> Result<(), Refusal> {
        self.d.fill(stream, 0xff)?;
        self.last.fill(stream, 0xff)
    }

    /// Another second matrix in place of the one that there is: what the GPU has of that is given back.
    pub(super) fn renew_b(
        &mut self,
        precision: Precision,
        context: &Context,
        seed: u64,
    ) -> Result<Buffer, Refusal> {
        let kind = Kind::of_b(precision);
        let b = Pool::new(kind, self.b.bytes().len() / kind.size(), &mut Chance::new(seed));
        let there = Buffer::of(context, b.bytes())?;
        self.b = b;
        Ok(std::mem::replace(&mut self.there.1, there))
    }

    /// What the last timed group wrote.
    fn timed(&self) -> Result<Timed, Refusal> {
        Ok(Timed { last: self.last.read()?, before: self.d.read()? })
    }

    fn run(
        &self,
        product: &Product,
        algorithm: &Algorithm,
        stream: &Stream,
    ) -> Result<(), Refusal> {
        product.run(algorithm, (&self.there.0, &self.there.1, &self.d), stream)
    }
}

/// The shapes that fit the memory, none that takes more than about two minutes of a slow precision.
fn shapes(row: &Row, context: &Context, order: &Order) -> Result<Vec<Shape>, Refusal> {
    let slow = matches!(row.precision, Precision::Fp64 | Precision::Fp32);
    let most = match (order.effort, slow) {
        (Effort::Quick, _) => 1,
        (Effort::Usual, true) => 2,
        (Effort::Usual, false) => SHAPES.len(),
        (Effort::Full, true) => 4,
        (Effort::Full, false) => SHAPES.len(),
    };
    let (free, _) = context.memory()?;
    let (input, output) = (row.precision.input_bytes() as u64, row.precision.output_bytes() as u64);
    // All matrices are made as large as the largest: the sum bounds them.
    let bytes = |s: &Shape| (s.m * s.k + s.n * s.k) * input + s.m * s.n * output;
    let mut shapes: Vec<Shape> = SHAPES.iter().take(most).copied().collect();
    let fits = |shape: &Shape| bytes(shape) * 2 < free;
    shapes.retain(fits);
    if shapes.is_empty() {
        shapes.extend(SQUARES.iter().copied().find(fits));
    }
    Ok(shapes)
}

fn one(
    row: &Row,
    blas: &Blas,
    device: &Device,
    context: &Context,
    order: &Order,
    begun: &mut Instant,
) -> Result<(Figure, Best), Fault> {
    let shapes = shapes(row, context, order)?;
    let matrices = Matrices::new(row.precision, &shapes, context, order.seed)?;
    let clock = Clock::new(context)?;
    let mut found: Vec<Best> = Vec::new();
    let mut refused = None;
    for shape in shapes {
        match try_all(row, blas, &matrices, &clock, shape, order) {
            Ok(some) => found.extend(some),
            Err(refusal) => refused = Some(refusal),
        }
    }
    found.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
    found.truncate(if order.effort == Effort::Quick { 1 } else { 3 });
    let mut best: Option<(Best, Times, Timed)> = None;
    *begun = Instant::now();
    for one in found {
        let product = blas.product(row.precision, one.shape)?;
        let mut work =
            |stream: &Stream, turn| matrices.turn(&product, &one.algorithm, stream, turn);
        let times = order.bursts(&clock, &mut work)?;
        let one = Best { seconds: times.median(), ..one };
        if best.as_ref().is_none_or(|(best, ..)| speed(best) < speed(&one)) {
            best = Some((one, times, matrices.timed()?));
        }
    }
    let Some((best, times, written)) = best else {
        let nothing = Refusal::Absurd {
            call: "cublasLtMatmulAlgoGetHeuristic",
            answer: format!("no algorithm for {} on {}", row.figure, device.name),
        };
        return Err(refused.unwrap_or(nothing).into());
    };
    let worst = check_timed(row, best.shape, &matrices, &written, order.seed)?;
    let operations = best.shape.operations();
    let version = blas.version().map_or(String::new(), |version| format!(" of cuBLASLt {version}"));
    let method = format!(
        "{} (m x n x k), algorithm {} of {} offered{version}",
        best.shape,
        best.number + 1,
        best.of
    );
    let mut figure = timed(row.figure, &times, method, |seconds| operations / seconds / 1e12);
    figure.error = Some((worst, row.error));
    Ok((figure, best))
}

/// Operations each second.
fn speed(best: &Best) -> f64 {
    best.shape.operations() / best.seconds
}

/// The time of each algorithm for a shape.
fn try_all(
    row: &Row,
    blas: &Blas,
    matrices: &Matrices,
    clock: &Clock,
    shape: Shape,
    order: &Order,
) -> Result<Vec<Best>, Refusal> {
    let most = match order.effort {
        Effort::Quick => 3,
        Effort::Usual => 6,
        Effort::Full => 32,
    };
    matrices.poison(&clock.stream)?;
    let product = blas.product(row.precision, shape)?;
    let algorithms = product.algorithms(most)?;
    let of = algorithms.len();
    let (mut found, mut refused) = (Vec::new(), None);
    for (number, algorithm) in algorithms.into_iter().enumerate() {
        let mut work = |stream: &Stream| matrices.run(&product, &algorithm, stream);
        // One that is offered and then refused is not the last one.
        if let Err(refusal) = clock.time(1, &mut work) {
            refused = Some(refusal);
            continue;
        }
        let seconds = clock.time(2, &mut work)?;
        let count = ((0.02 / seconds) as u32).clamp(2, 64);
        let seconds = clock.time(count, &mut work)?;
        found.push(Best { shape, algorithm, number, of, seconds });
    }
    // Where none ran, what kept the last one from it is the cause.
    match refused {
        Some(refusal) if found.is_empty() => Err(refusal),
        _ => Ok(found),
    }
}

/// The best without a pause.
fn sustain(
    row: &Row,
    blas: &Blas,
    context: &Context,
    best: &Best,
    order: &Order,
    begun: &mut Instant,
) -> Result<Figure, Fault> {
    /// Groups in which a host that is busy itself may look as if the timer lied.
    const BUSY: u32 = 10;
    let seconds = match order.effort {
        Effort::Quick => 2.0,
        Effort::Usual => 10.0,
        Effort::Full => 60.0,
    };
    let matrices = Matrices::new(row.precision, &[best.shape], context, order.seed)?;
    let clock = Clock::new(context)?;
    let product = blas.product(row.precision, best.shape)?;
    let mut work = |stream: &Stream, turn| matrices.turn(&product, &best.algorithm, stream, turn);
    let count = ((0.1 / best.seconds) as u32).max(1);
    let mut lies = Lies::of(BUSY);
    let start = Instant::now();
    let (whole, half) = (Duration::from_secs_f64(seconds), Duration::from_secs_f64(seconds / 2.0));
    let mut groups = Vec::new();
    while start.elapsed() < whole {
        // Some microseconds of a tenth of a second: which group is the last, nobody knows before.
        clock.before(&mut work)?;
        let Some(time) = clock.honest(count, &mut lies, &mut work)? else { continue };
        if start.elapsed() >= half {
            if groups.is_empty() {
                *begun = Instant::now();
            }
            groups.push(time);
        }
    }
    if groups.is_empty() {
        let answer = format!("no time in {seconds:.0} s that is the host's");
        return Err(Refusal::Absurd { call: "cuEventElapsedTime", answer }.into());
    }
    let (operations, times) = (best.shape.operations(), Times::of(groups));
    let worst = check_timed(row, best.shape, &matrices, &matrices.timed()?, order.seed)?;
    let method = format!("{}, {seconds:.0} s without a pause", best.shape);
    let rate = |seconds| operations / seconds / 1e12;
    let mut figure = timed("bf16-sustained", &times, method, rate);
    figure.error = Some((worst, row.error));
    Ok(figure)
}
