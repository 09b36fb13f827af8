//! The figures as a page of the manual: `docs/bench.md` is generated from their rows.

use std::fmt::Write;

use crate::figures::{FIGURES, GROUPS};

const HEAD: &str = "\
# What `sconce bench` measures

Generated from the rows in `crates/bench/src/figures.rs`; a test fails when they differ (`UPDATE_EXPECT=1 cargo test -p sconce-bench`
writes it anew).

    sconce bench torch:2.15.0            # two minutes for a GPU
    sconce bench --quick torch:2.15.0    # the first look
    sconce bench --advise torch:2.15.0   # through torch as well: what AMP, torch.compile and CUDA graphs give here
    sconce bench --full torch:2.15.0     # all shapes and algorithms, a minute of sustained load, and --advise
    sconce bench --burn 30m torch:2.15.0 # load without a pause, every result compared
    sconce bench --image A --image B     # two images on the same GPUs; the second beside the first
    sconce bench --html . > bench.html   # one page with charts, in English and Chinese
    sconce bench log                     # what this machine has reached so far
    sconce bench --only products,memory-read --gpus device=0 .
    sconce bench --json . > before.json; sconce bench --baseline before.json .
    sconce bench --host --python venv/bin/python    # without a container

The container is started as `sconce run` would start it, and sconce itself, mounted into it, opens the libraries of the image:
cuBLASLt, cuSPARSELt, NVRTC, NCCL, wherever the linker, a toolkit in `/usr/local/cuda` or Python's packages have them. A library that is
not there makes its figures \"not measured\", with the reason; the others are measured. Each group of figures is a process of its own with a time limit:
a crash or a hang costs that group alone. So is asking which GPUs there are (45 s); where CUDA does not answer, what needs no GPU is measured
nevertheless. NVML has 20 s for its first answer: without it figures are measured, and clocks, power and links are not known. Where it stops answering later
(5 s), that is said and the exit code is 11; what was measured is kept, with what it had said until then. So it is while Python
measures; what NVML saw belongs to a figure from its first word on, and is never Python's. What no GPU can have (a clock of 0, a power of 4 MW, a
highest clock of less than half of the product's) is no answer of it: it is not shown, and nothing is judged by it (`crates/facts/data/believed.toml`
has a row with its source for each bound).

**Right before fast.** What is computed is compared: products with the host, in float64, over a result that was filled with
NaN before; copies with what was copied; collectives number by number, in each size. A wrong result is said as `WRONG`, the exit
code is 1, and no speed makes up for it.
Of a product (and of `bf16-sparse`) 512 (256) sums are computed again one by one, and every number is in Freivalds' check: for blocks of up to
1024 columns, C·r is held to A·(B·r), where the signs in r are drawn from the system's randomness when C is there already. A sum of a row and a block may be off by
10 times the root of its columns' number, times what the sums of the sample were off by, root mean square, in units of the root of the summed
squares of a number's products: random signs make more than that of no errors of that size (Hoeffding 1963), and the rounding of the output and of the
accumulator is in it as the GPU has it. At 8192x8192x8192 one wrong number of 67 million is found for certain if it is
off by twice what is allowed: in BF16 about as much as numbers usually are, in FP16 a fourth of it, in FP8 some times as much; of INT8 any. Several wrong ones
in one row and block can hide each other, at most in one of two rows. A convolution is such a product: of each pixel, its channels added up with random
signs are held to a filter of one channel, in float64, and 256 sums are computed again. One wrong number of 103 million is found for certain if it is off by twice
what is allowed, which is about half of what numbers usually are with 256 channels, and 0.7 of it with 512. A pixel all of whose numbers are others
is missed once in a hundred times, two of them once in ten thousand.
Where others have taken the memory, the shape of a product is the largest square down to 1024 that fits twice, and a convolution has fewer images, which is slower. The numbers are random and fresh each time (`--seed` repeats them): a GPU draws less power on zeros,
and then shows more than it has in training.

**Which GPU, and what was timed.** Each group's process holds the UUIDs and places on the bus of its GPUs to those that were listed: one that is another now, or is
gone, is not measured (CUDA numbers anew where one has fallen off the bus). Where CUDA's UUID is not NVML's, or two GPUs are at one place on the bus, their figures are
*can't tell*. What is compared is what was timed: before the last burst (of copies and memory: the last group) what is to be written is poisoned, and its last launch writes to
a place of its own (products, convolutions, copies), or another value than those before it (`memory-write`, `memory-triad`), or is of other numbers: the last sparse product is of another
dense matrix, at the place of the first, since the library touches memory that is none where it is given other places than its plan was searched with. The last timed call
of a collective, in each size that is measured, sends other numbers than those before it, and all that every GPU got of it is compared. Of `memory-read` and `l2-read` the sums of all
launches of that group are compared. A GPU that does the first of a burst, and for the others only takes its time, is `WRONG`. Not proved is that the launches between the first and the last were
done, which write the same to one place, nor those of the bursts before. Of launches, graphs and allocations there is nothing to compare. Each copy of `host-to-device-pageable` is
waited for by itself, and the last one goes over poison. Through torch, the places of the results are filled with NaN before the last burst or group, and what its last call left is compared;
of the small model, that there is a loss at all: it is compared before.

**Which timer.** Each burst, group and round is held to the host's clock as well: those for which the two are more than 3 % apart (less than half of the 7 % that a verdict allows) are taken again, up
to twice as many as are wanted. Where the host is too slow to say it of 10 ms (a busy one, or one that is told late), up to three groups of ten times as long are timed, which costs waking a tenth
as much of them: one that is within 3 % bears the timer out. Without one, a figure is never as expected: *can't tell* says how far apart the two are, and that the host may be slow or
the timer wrong, which nobody can know there. Nor is it low, unless it is so by the host's clock as well: a timer that says too much makes a faithful GPU look slow. More than a quarter (of too much a tenth), and of a burst 3 ms beside it, is no time: where there are three times as many of those as were wanted, or the longest group is
so, there is no figure, and both times are said. A timer that is right over tenths of a second, and wrong over less by no more than that, on a host that is slow, would pass.
The clock of the host itself is believed. Figures of collectives and latencies are by the host's clock alone. A figure that is more than 1.1 times the best that is known of this GPU (`beyond`
in `crates/facts/data/figures.toml`, with its source) is *can't tell*: nobody has published as much. `l2-read` has no row of any GPU to be compared with, and is never more than that. A figure that is more than 1.15 times what the multiprocessors can do at
the highest clock that NVML saw meanwhile is *can't tell*, and so is one that passed more than the link that NVML says (but not more than the best of board and slot, with the
right contents). Repeats whose middle half lies further apart than a quarter of the median are not as expected: *low* where even the best of them is, or with what held the clock; else *can't tell*. A reason that NVML
gave while the clock never fell, or a power limit that left it at its highest, held nothing.
The time limit of a group is 120 s with `--quick`, 600 s, 3600 s with `--full`, and that of `burn` as long as it takes beside; what has no answer when it is over is named.

**Bursts and sustained.** Matrix products are measured in bursts of 10 ms with pauses of 100 ms, which is what short benchmarks publish: the clock
is high, since the power limit takes longer to act. `bf16-sustained` is without a pause: what training gets. On an H100
the two are about 808 and 705 TFLOP/s.

**Through torch.** `--advise` and `--full` also measure what the image's torch makes of the first GPU: products, attention, a convolution, a transformer
block forward and backward in each precision, compiled and as a CUDA graph, a small model, the DataLoader. A program in Python does
that; its results are held to float64, to the gradients of float32 or to the loss of plain training. Of a product 32 sums are compared, and that
every number was written: of wrong numbers that are a share s of all, one is among them with a probability of 1 - (1 - s)^32, so half of the runs find a fault in one of
47 numbers, and one that is in a single tile of a large product is most likely missed; `bf16`, which cuBLASLt computes natively, is checked whole. Of the convolution every pixel
is in Freivalds' check. Every row of attention (the numbers of a token in a head) is held to float32 on the same GPU without a fused kernel, some to float64 on
the processor: a wrong number is found that is off by a fourth of what numbers usually are. Its gradients are held head by head, by their norm, and row by row to a tenth of
what rows usually are: a row next to nothing, as those of the last tokens' keys and values are, may be wrong unseen. The lines of advice at the end are ratios of
figures of the same run that are believed; they hold for these shapes on this machine. torch.compile needs a C compiler in the image: without one it is not measured.
DataLoader figures need no GPU: `sconce bench --gpus none --only loader .` measures the processor and `/dev/shm`.
**Figures through torch are the image's word.** Python and torch are the image's: a program that stands in their place can write any number below its bound, with an error that is small enough, and
what it took the time with is its own. What sconce measures natively depends on no Python; where the two differ by more than they should, believe that. What Python says is not trusted beyond that: it is started when all else was measured, in a container of its own (with `--host` a process), and may answer
for the figures that were asked of it and for nothing else. A figure on the GPU without the error of its results, or with a number that can't be, is none. What it leaves
running ends with its group of figures, in a session of its own too (where sconce itself is killed with SIGKILL under `--host`, that stays). What it says beyond that is refused by name, and is a remark in the result.

**Burn.** `--burn TIME` computes two products by turns on all GPUs at once, into one place after another of nine tenths of the free memory, and
compares every result with the first of its kind bit by bit, on the GPU. The first of each is held to the host. All places are poisoned before, and each time that a place is written it is the other
product's turn: a GPU that leaves a place as it was leaves what is wrong there. What is compared is counted on the GPU, and the host holds the count to what it asked for, each second: one that does
nothing any more finds no difference either, and is `WRONG` by that. A GPU that differs once is said as `WRONG` at once; the
others go on. It proves that every product of the burn was computed, as the same GPU computed it at the start; not that the reading of a comparison was right, where a
fault were to write both numbers. Each second is held to the host's clock. cuBLAS promises the same bits for the same product on one GPU (cuBLAS documentation, \"Results reproducibility\").

**Kept.** A result that was not interrupted is kept in the store, wrong ones too, the last 1000 of them: `sconce bench log` prints some figures of each (`--only`
names others, `--gpus 0,1` shows these), `--json` all of them; results of a newer sconce are named and not read. An earlier one is compared by
`--baseline FILE`: it is read before anything is measured, strictly: a figure that is beyond its bound, off by more than it was allowed, negative or none is refused with the reason. One that it marks as wrong
is *can't tell*, and so is one whose timer the host's clock did not bear out, whose repeats are far apart, whose GPU or clock contradicts itself, or that is more than 1.1 times the best known, then or now; a GPU that was wrong then, in any figure, is named; so is each GPU that is measured and that it does not have. Where nothing is compared, it is said why. One that has none of the figures that are asked for is refused then. Another effort, image, GPU
(its name, or its multiprocessors), driver and torch (by the name of its package: nothing of it is run) are said before anything is measured, and again
above the changes, in the document and on the pages. Of another GPU or effort no figure is better or worse: *can't tell because* has the reason.
Another driver, image or torch is what people compare: the figures are compared, beside what differs. A figure is better or worse from 3 % on, where that is more than the repeats of either run
are apart (the ± of its line).

**The verdict** compares with figures in `crates/facts/data/figures.toml`, each with its source. *As expected*: at least 93 % of the best that is
known of this GPU, published or measured by this project (sustained: 83 %; with the host: 85 %). *Above DCGM's floor*: more than NVIDIA's acceptance test asks
for, which is 75 % of what its authors saw; no more is known. *Low* comes with what NVML saw meanwhile:
power limit, heat, power brake, clocks set lower, fewer PCIe lanes, a PCIe generation that is lower while it is measured (an idle GPU lowers it, which
is no fault), other processes, fewer multiprocessors than the product has; one that explains less than half of
what is missing is said with its share of it; without such a cause it says so. A GPU that stays 5 % or more below the others of the machine is named:
of its own product, whole or split as it is, that came with the same power limit; a figure that is *can't tell* by itself (its timer, its repeats, more than anybody has seen, a GPU or clock that
contradicts itself) is no measure for others. Of a pair of two kinds nothing is known: *can't tell*. The last line names what can't be told, beside what was compared. *Can't tell* comes with the reason: nothing is known to
compare with, or no bound. A MIG instance is compared with its share of the multiprocessors, for products only, and that is said.

**Bounds.** Every figure but `loader` and `loader-passing` has one that it can't pass (`bound` in `crates/facts/data/figures.toml`): what the
multiprocessors do at their highest clock; the data sheet's memory bandwidth; the lanes of PCIe times its generation, or NVLink to the host; NVLink, or PCIe,
between GPUs; and for launches, allocations and the latency of NCCL the least time that they must take. More than that (of any repeat)
is no speed but a wrong result, and so is one whose own error is larger than allowed. Where the bound can't be worked out, as without NVML, a figure is
never as expected; of a GPU that NVML calls something else than CUDA does nobody knows it, and too much is *can't tell*. Of a product that is known, what the machine says of itself raises no bound: capability, multiprocessors, highest clock, memory, and the
generation and lanes of PCIe that CUDA and NVML name count up to what the product has (`crates/facts/data/gpus.toml`), and where they name more, its figures are
*can't tell*, with what was said. The memory's bound is a tenth above the data sheet: some data sheets are rounded by 2 %, and GeForce cards are sold with
faster memory.

Exit codes: 0 all was measured, and nothing is low; 1 a wrong result, or a figure that is low; 11 part of what was asked for could not be
measured, or something was said that nobody asked for (the last line has which); 12 nothing could be measured; 2 options that make no sense together, or a figure that there is not; 3 a document that can't be read
(`--baseline`, a sconce.toml); 7 the store can't be read or written (where a result alone can't be kept in it, a note says so); 8 the container was given no GPU; 130 interrupted by Ctrl-C, 143 by
SIGTERM, else 128 and the number of the signal (what was measured until then is printed, and not kept). Any other is that of what keeps
the container from starting (`sconce --help` has them all). `--json` gives the [document](format/bench.md), `--markdown` and `--html` a page.

";

/// The text of `docs/bench.md`.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for (group, name) in GROUPS {
        _ = write!(
            page,
            "## {name}\n\n| figure | unit | `--quick` | what it says | how |\n|---|---|---|---|---|\n"
        );
        let mut above = "";
        for row in FIGURES.iter().filter(|row| row.group == *group) {
            let quick = if row.quick { "yes" } else { "" };
            let how = if row.method == above { "as above" } else { row.method };
            above = row.method;
            _ = writeln!(
                page,
                "| `{}` | {} | {quick} | {} | {how} |",
                row.name, row.unit, row.says
            );
        }
        page.push('\n');
    }
    page.push_str(TAIL);
    page
}

const TAIL: &str = "\
## What is not measured

FP4 (its scales are another interface), and NCCL over several machines. cuDNN's attention
is measured through torch, not natively; what is measured through torch, on the first GPU only. Clocks within a burst: NVML is asked every 50 ms.
";
