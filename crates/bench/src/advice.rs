//! What to do with figures of one run: what each way to train gives on this machine.

use crate::answer::{Figure, Unavailable};
use crate::sentence::Sentence;

/// Two figures of one run, and what their ratio says. `{}` is the ratio: `1.34` where it is a gain, `97 %` where it is a share.
struct Row {
    of: &'static str,
    beside: &'static str,
    /// From this ratio on, `yes` is said.
    least: f64,
    share: bool,
    yes: (&'static str, &'static str),
    no: (&'static str, &'static str),
}

/// Gains below 3 to 5 % are within what two runs of one machine differ by.
const ROWS: &[Row] = &[
    Row {
        of: "train-tf32",
        beside: "train-fp32",
        least: 1.05,
        share: false,
        yes: (
            "TF32 trains {} times as fast as float32, and is off by default: torch.set_float32_matmul_precision(\"high\")",
            "TF32 的训练速度是 float32 的 {} 倍，但默认关闭：torch.set_float32_matmul_precision(\"high\")",
        ),
        no: (
            "TF32 gives nothing here ({} times float32)",
            "TF32 在这里没有收益（float32 的 {} 倍）",
        ),
    },
    Row {
        of: "train-bf16",
        beside: "train-tf32",
        least: 1.05,
        share: false,
        yes: (
            "AMP trains {} times as fast as TF32: torch.autocast(\"cuda\", torch.bfloat16)",
            "AMP 的训练速度是 TF32 的 {} 倍：torch.autocast(\"cuda\", torch.bfloat16)",
        ),
        no: ("AMP gives nothing here ({} times TF32)", "AMP 在这里没有收益（TF32 的 {} 倍）"),
    },
    Row {
        of: "train-fp8",
        beside: "train-bf16",
        least: 1.05,
        share: false,
        yes: (
            "FP8 linear layers train {} times as fast as BF16 ones, even with plain scaling: torchao.float8 or Transformer Engine",
            "即使用最简单的缩放，FP8 线性层的训练速度也是 BF16 的 {} 倍：torchao.float8 或 Transformer Engine",
        ),
        no: (
            "FP8 with plain scaling trains {} times as fast as BF16: it pays only where the scaling is fused (torchao.float8 with torch.compile, Transformer Engine)",
            "用最简单的缩放，FP8 的训练速度是 BF16 的 {} 倍：只有把缩放融合进去才合算（torchao.float8 加 torch.compile，或 Transformer Engine）",
        ),
    },
    Row {
        of: "train-bf16-compiled",
        beside: "train-bf16",
        least: 1.03,
        share: false,
        yes: (
            "torch.compile trains a large block {} times as fast: torch.compile(model)",
            "torch.compile 使大层的训练速度达到 {} 倍：torch.compile(model)",
        ),
        no: (
            "torch.compile gives a large block nothing ({} times)",
            "torch.compile 对大层没有收益（{} 倍）",
        ),
    },
    Row {
        of: "train-bf16-graph",
        beside: "train-bf16",
        least: 1.03,
        share: false,
        yes: (
            "a CUDA graph trains a large block {} times as fast: torch.cuda.graph",
            "CUDA 图使大层的训练速度达到 {} 倍：torch.cuda.graph",
        ),
        no: (
            "a CUDA graph gives a large block nothing ({} times): its kernels are long beside their launches",
            "CUDA 图对大层没有收益（{} 倍）：与启动开销相比，内核运行时间很长",
        ),
    },
    Row {
        of: "small-compiled",
        beside: "small-eager",
        least: 1.05,
        share: false,
        yes: (
            "torch.compile trains a small model {} times as fast: torch.compile(model)",
            "torch.compile 使小模型的训练速度达到 {} 倍：torch.compile(model)",
        ),
        no: (
            "torch.compile gives a small model nothing ({} times)",
            "torch.compile 对小模型没有收益（{} 倍）",
        ),
    },
    Row {
        of: "small-graph",
        beside: "small-eager",
        least: 1.05,
        share: false,
        yes: (
            "a CUDA graph trains a small model {} times as fast: torch.cuda.graph, or torch.compile(model, mode=\"reduce-overhead\")",
            "CUDA 图使小模型的训练速度达到 {} 倍：torch.cuda.graph，或 torch.compile(model, mode=\"reduce-overhead\")",
        ),
        no: (
            "a CUDA graph gives a small model nothing ({} times)",
            "CUDA 图对小模型没有收益（{} 倍）",
        ),
    },
    Row {
        of: "torch-bf16",
        beside: "bf16",
        least: 0.95,
        share: true,
        yes: (
            "torch keeps {} of what cuBLASLt reaches in BF16",
            "torch 保住了 cuBLASLt 在 BF16 上性能的 {}",
        ),
        no: (
            "torch keeps only {} of what cuBLASLt reaches in BF16: its cuBLAS may be older, or TORCH_BLAS_PREFER_CUBLASLT=1 may help",
            "torch 只保住了 cuBLASLt 在 BF16 上性能的 {}：它的 cuBLAS 可能较旧，或可试 TORCH_BLAS_PREFER_CUBLASLT=1",
        ),
    },
    Row {
        of: "torch-fp8",
        beside: "fp8",
        least: 0.95,
        share: true,
        yes: (
            "torch keeps {} of what cuBLASLt reaches in FP8",
            "torch 保住了 cuBLASLt 在 FP8 上性能的 {}",
        ),
        no: (
            "torch keeps only {} of what cuBLASLt reaches in FP8: its cuBLAS may be older",
            "torch 只保住了 cuBLASLt 在 FP8 上性能的 {}：它的 cuBLAS 可能较旧",
        ),
    },
    Row {
        of: "train-bf16",
        beside: "bf16-sustained",
        least: 0.0,
        share: true,
        yes: (
            "a block in BF16 trains at {} of what products sustain",
            "BF16 的层训练速度是矩阵乘持续性能的 {}",
        ),
        no: ("", ""),
    },
];

/// What this run's figures say to somebody who trains here.
pub fn advice(figures: &[&Figure], unavailable: &[Unavailable]) -> Vec<Sentence> {
    let value = |name: &str| {
        let first = figures.iter().find(|one| one.figure == name)?;
        (first.value > 0.0).then_some(first.value)
    };
    let mut found: Vec<Sentence> = ROWS
        .iter()
        .filter_map(|row| {
            let ratio = value(row.of)? / value(row.beside)?;
            let (en, zh) = if ratio >= row.least { row.yes } else { row.no };
            let number = match row.share {
                true => format!("{:.0} %", ratio * 100.0),
                false => format!("{ratio:.2}"),
            };
            Some(Sentence::new(en.replacen("{}", &number, 1), zh.replacen("{}", &number, 1)))
        })
        .collect();
    if let Some(loader) = figures.iter().find(|one| one.figure == "loader") {
        found.extend(workers(loader));
    }
    if let Some(one) = unavailable.iter().find(|one| one.figure == "loader-passing") {
        found.push(Sentence {
            en: format!("large batches from workers: {}", one.reason),
            zh: format!("工作进程传来的大批次：{}", one.reason),
        });
    }
    found
}

/// The least number of workers that gives nearly the best.
fn workers(loader: &Figure) -> Option<Sentence> {
    const NEARLY: f64 = 0.95;
    let best = loader.curve.iter().map(|(_, rate)| *rate).reduce(f64::max)?;
    let (count, rate) = loader.curve.iter().find(|(_, rate)| *rate >= best * NEARLY)?;
    let (last, _) = loader.curve.last()?;
    let more = |en: &'static str, zh: &'static str| if count < last { (en, zh) } else { ("", "") };
    let (en, zh) = more("; more give nothing", "；再多也没有收益");
    Some(Sentence {
        en: format!(
            "a DataLoader that decodes as much as this gives {rate:.0} samples/s with num_workers={count}{en}"
        ),
        zh: format!("这种工作量的 DataLoader 用 num_workers={count} 可达每秒 {rate:.0} 个样本{zh}"),
    })
}
