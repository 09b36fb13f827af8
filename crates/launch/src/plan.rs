//! How much memory a training run takes and on which GPUs it fits: arithmetic that is shown, over rows with sources.

use std::fmt::Write;

use serde::Serialize;

use crate::error::Error;

/// Bytes a parameter takes: of the weights, their gradients, and copies made for a step.
struct Precision {
    name: &'static str,
    weights: f64,
    gradients: f64,
    copies: f64,
    /// Of an activation.
    activation: f64,
    source: &'static str,
}

const PRECISIONS: [Precision; 3] = [
    Precision {
        name: "fp32",
        weights: 4.0,
        gradients: 4.0,
        copies: 0.0,
        activation: 4.0,
        source: "float32 throughout",
    },
    Precision {
        name: "mixed",
        weights: 4.0,
        gradients: 4.0,
        copies: 2.0,
        activation: 2.0,
        source: "torch.autocast keeps weights and gradients in float32 and casts weights for a step (PyTorch, Automatic Mixed Precision)",
    },
    Precision {
        name: "bf16",
        weights: 2.0,
        gradients: 2.0,
        copies: 0.0,
        activation: 2.0,
        source: "model.to(torch.bfloat16): no float32 copy of the weights",
    },
];

/// What an optimizer keeps: float32 numbers a parameter, or bytes.
struct Optimizer {
    name: &'static str,
    bytes: f64,
    source: &'static str,
}

const OPTIMIZERS: [Optimizer; 4] = [
    Optimizer {
        name: "adamw",
        bytes: 8.0,
        source: "two float32 moments (ZeRO, arXiv:1910.02054, 3.1)",
    },
    Optimizer { name: "adamw8bit", bytes: 2.0, source: "two 8-bit moments (arXiv:2110.02861)" },
    Optimizer {
        name: "momentum",
        bytes: 4.0,
        source: "one float32 momentum (torch.optim.SGD, momentum)",
    },
    Optimizer { name: "sgd", bytes: 0.0, source: "torch.optim.SGD keeps nothing" },
];

/// What is divided among the GPUs.
struct Sharding {
    name: &'static str,
    weights: bool,
    gradients: bool,
    optimizer: bool,
    /// Gradients lie in buckets a second time.
    buckets: bool,
    source: &'static str,
}

const SHARDINGS: [Sharding; 4] = [
    Sharding {
        name: "ddp",
        weights: false,
        gradients: false,
        optimizer: false,
        buckets: true,
        source: "buckets hold gradients a second time unless gradient_as_bucket_view=True (PyTorch, DistributedDataParallel)",
    },
    Sharding {
        name: "zero1",
        weights: false,
        gradients: false,
        optimizer: true,
        buckets: false,
        source: "optimizer states divided (ZeRO, arXiv:1910.02054, 5.1)",
    },
    Sharding {
        name: "zero2",
        weights: false,
        gradients: true,
        optimizer: true,
        buckets: false,
        source: "and gradients (ZeRO, arXiv:1910.02054, 5.2); FSDP's SHARD_GRAD_OP is near to it",
    },
    Sharding {
        name: "fsdp",
        weights: true,
        gradients: true,
        optimizer: true,
        buckets: false,
        source: "weights, gradients and optimizer states divided (ZeRO, arXiv:1910.02054, 5.3; FSDP's FULL_SHARD)",
    },
];

/// Of a GPU's memory, what CUDA's context, NCCL's buffers and gaps between blocks are taken to need. An assumption.
const MARGIN: f64 = 0.10;

/// A transformer's dimensions, for its activations.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Layers.
    pub layers: u32,
    /// The width of a layer.
    pub hidden: u32,
    /// Tokens of a sequence.
    pub sequence: u32,
    /// Sequences a GPU takes at once.
    pub batch: u32,
    /// Whether each layer is computed again for its gradients.
    pub checkpointing: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Parameters.
    pub parameters: f64,
    /// One of `fp32`, `mixed`, `bf16`.
    pub precision: String,
    /// One of `adamw`, `adamw8bit`, `momentum`, `sgd`.
    pub optimizer: String,
    /// One of `ddp`, `zero1`, `zero2`, `fsdp`.
    pub sharding: String,
    /// GPUs.
    pub gpus: u32,
    /// Names of GPUs, as facts know them.
    pub models: Vec<String>,
    /// For activations.
    pub shape: Option<Shape>,
    /// DataLoader workers of a rank, and bytes of a batch.
    pub loader: Option<(u32, f64)>,
    /// Ranks of a node.
    pub ranks_per_node: u32,
}

/// A line of the sum.
#[derive(Debug, Serialize)]
pub struct Line {
    what: &'static str,
    arithmetic: String,
    bytes: f64,
    source: &'static str,
}

/// What a GPU is to it.
#[derive(Debug, Serialize)]
pub struct Fit {
    gpu: String,
    bytes: f64,
    /// "yes", "no", or "can't tell": the states fit, and activations are not known.
    fits: &'static str,
    /// Bytes left for what was not counted.
    left: f64,
    /// The fewest GPUs on which the states alone fit.
    fewest: Option<u32>,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// 1.
    pub schema: u32,
    lines: Vec<Line>,
    total: f64,
    activations_counted: bool,
    gpus: u32,
    fits: Vec<Fit>,
    shm: Option<Line>,
}

/// `7b`, `350m`, `1.3B`, `124000000`.
///
/// # Errors
/// Something else.
pub fn parameters(given: &str) -> Result<f64, Error> {
    let lower = given.to_ascii_lowercase();
    let (digits, scale) = match lower.char_indices().next_back() {
        Some((at, 'k')) => (&lower[..at], 1e3),
        Some((at, 'm')) => (&lower[..at], 1e6),
        Some((at, 'b')) => (&lower[..at], 1e9),
        Some((at, 't')) => (&lower[..at], 1e12),
        _ => (lower.as_str(), 1.0),
    };
    let number = digits.parse::<f64>().ok().map(|number| number * scale);
    number.filter(|number| (1.0..=1e15).contains(number)).ok_or_else(|| Error::Setting {
        name: "parameters",
        given: given.chars().take(40).collect(),
        why: "write a number such as 350m, 7b or 1.3b".to_owned(),
    })
}

fn row<'a, T>(
    rows: &'a [T],
    name: &dyn Fn(&T) -> &'static str,
    setting: &'static str,
    given: &str,
) -> Result<&'a T, Error> {
    rows.iter().find(|row| name(row) == given).ok_or_else(|| Error::Setting {
        name: setting,
        given: given.chars().take(40).collect(),
        why: format!("there are {}", rows.iter().map(name).collect::<Vec<_>>().join(", ")),
    })
}

/// The bytes of weights, gradients and optimizer states on one of so many GPUs.
fn states(question: &Question, gpus: u32) -> Result<Vec<Line>, Error> {
    let precision = row(&PRECISIONS, &|row| row.name, "precision", &question.precision)?;
    let optimizer = row(&OPTIMIZERS, &|row| row.name, "optimizer", &question.optimizer)?;
    let sharding = row(&SHARDINGS, &|row| row.name, "sharding", &question.sharding)?;
    let count = question.parameters;
    let n = f64::from(gpus.max(1));
    let line = |what, bytes: f64, divided: bool, source| {
        let share = if divided { n } else { 1.0 };
        let by = if divided && gpus > 1 { format!(" / {gpus}") } else { String::new() };
        Line {
            what,
            arithmetic: format!("{} x {bytes} bytes{by}", number(count)),
            bytes: count * bytes / share,
            source,
        }
    };
    let mut lines = vec![
        line("weights", precision.weights, sharding.weights, precision.source),
        line("gradients", precision.gradients, sharding.gradients, sharding.source),
        line("optimizer", optimizer.bytes, sharding.optimizer, optimizer.source),
    ];
    if precision.copies > 0.0 {
        // A sharded model casts a layer at a time; which share that is depends on how it was wrapped.
        lines.push(line("casts", precision.copies, sharding.weights, precision.source));
    }
    if sharding.buckets && gpus > 1 {
        lines.push(line("buckets", precision.gradients, false, sharding.source));
    }
    Ok(lines)
}

/// Answers a question.
///
/// # Errors
/// Names that no row has.
pub fn plan(question: &Question) -> Result<Plan, Error> {
    let precision = row(&PRECISIONS, &|row| row.name, "precision", &question.precision)?;
    let mut lines = states(question, question.gpus)?;
    if let Some(shape) = question.shape {
        let [layers, hidden, sequence, batch] =
            [shape.layers, shape.hidden, shape.sequence, shape.batch].map(f64::from);
        // In bytes for 16-bit activations; twice for 32-bit ones.
        let (factor, source) = match shape.checkpointing {
            true => (2.0, "full recomputation: 2 s b h bytes a layer (arXiv:2205.05198, table 2)"),
            false => (
                34.0,
                "34 s b h bytes a layer, attention itself recomputed as FlashAttention does (arXiv:2205.05198, 4.1 and table 2)",
            ),
        };
        let factor = factor * precision.activation / 2.0;
        lines.push(Line {
            what: "activations",
            arithmetic: format!(
                "{layers} layers x {factor} x {sequence} tokens x {batch} x {hidden}"
            ),
            bytes: layers * factor * sequence * batch * hidden,
            source,
        });
    }
    let total: f64 = lines.iter().map(|line| line.bytes).sum();
    let counted = question.shape.is_some();
    let rest: f64 =
        lines.iter().filter(|line| line.what == "activations").map(|line| line.bytes).sum();
    let mut fits = Vec::new();
    for name in &question.models {
        let setting = |why: String| Error::Setting {
            name: "gpu",
            given: name.chars().take(80).collect(),
            why,
        };
        let gpu = sconce_facts::gpu(name).map_err(|error| setting(error.to_string()))?;
        let memory = gpu
            .memory_gb
            .ok_or_else(|| setting("how much memory it has is not known".to_owned()))?;
        let usable = memory * 1e9 * (1.0 - MARGIN);
        let left = usable - total;
        let mut fewest = None;
        for gpus in 1..=4096 {
            if states(question, gpus)?.iter().map(|line| line.bytes).sum::<f64>() + rest <= usable {
                fewest = Some(gpus);
                break;
            }
        }
        let fits_it = match (left >= 0.0, counted) {
            (false, _) => "no",
            (true, true) => "yes",
            (true, false) => "can't tell",
        };
        fits.push(Fit { gpu: gpu.name.clone(), bytes: memory * 1e9, fits: fits_it, left, fewest });
    }
    let shm = question.loader.map(|(workers, batch)| Line {
        what: "/dev/shm of a node",
        arithmetic: format!(
            "{} ranks x ({workers} workers x 2 batches ahead + 1) x {}",
            question.ranks_per_node,
            size(batch)
        ),
        bytes: f64::from(question.ranks_per_node) * (f64::from(workers) * 2.0 + 1.0) * batch,
        source: "prefetch_factor is 2 batches a worker (PyTorch, torch.utils.data.DataLoader); workers hand batches over in shared memory",
    });
    Ok(Plan {
        schema: 1,
        lines,
        total,
        activations_counted: counted,
        gpus: question.gpus,
        fits,
        shm,
    })
}

impl Plan {
    /// Whether it fits on all GPUs that were named; `None` where that can't be told.
    #[must_use]
    pub fn verdict(&self) -> Option<bool> {
        match () {
            () if self.fits.iter().any(|fit| fit.fits == "no") => Some(false),
            () if self.fits.iter().any(|fit| fit.fits != "yes") => None,
            () => Some(true),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("memory of each of {} GPUs:\n", self.gpus);
        for line in &self.lines {
            _ = writeln!(out, "  {:12} {:>10}   {}", line.what, size(line.bytes), line.arithmetic);
        }
        _ = writeln!(out, "  {:12} {:>10}", "together", size(self.total));
        if !self.activations_counted {
            out += "  activations are not in it: they depend on the batch. For a transformer give --layers, --hidden, --sequence and --batch\n";
        }
        for fit in &self.fits {
            let usable = fit.bytes * (1.0 - MARGIN);
            let words = match fit.fits {
                "yes" => format!("fits, with {} left", size(fit.left)),
                "no" => format!("does not fit: {} too much", size(-fit.left)),
                _ => format!("can't tell: {} are left for activations", size(fit.left)),
            };
            let fewest = match fit.fewest {
                Some(gpus) if gpus != self.gpus => {
                    format!("; {gpus} of them are the fewest that hold it")
                }
                Some(_) => String::new(),
                None => "; no number of them holds it with this sharding".to_owned(),
            };
            _ = writeln!(
                out,
                "{}: {} usable of {}; {words}{fewest}",
                fit.gpu,
                size(usable),
                size(fit.bytes)
            );
        }
        if !self.fits.is_empty() {
            out += "  usable: all but 10%, taken for CUDA's context, NCCL's buffers and gaps between blocks (an assumption)\n";
        }
        if let Some(shm) = &self.shm {
            _ = writeln!(out, "{}: {}   {}", shm.what, size(shm.bytes), shm.arithmetic);
        }
        out += "sources:\n";
        let mut seen = Vec::new();
        for line in self.lines.iter().chain(&self.shm) {
            if !seen.contains(&line.source) {
                seen.push(line.source);
                _ = writeln!(out, "  {}: {}", line.what, line.source);
            }
        }
        out
    }
}

fn number(count: f64) -> String {
    match count {
        1e9.. => format!("{}e9", count / 1e9),
        1e6.. => format!("{}e6", count / 1e6),
        _ => format!("{count}"),
    }
}

/// GPUs' memory is sold in powers of ten.
fn size(bytes: f64) -> String {
    match bytes.abs() {
        1e9.. => format!("{:.1} GB", bytes / 1e9),
        1e6.. => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} kB", bytes / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(sharding: &str, gpus: u32) -> Question {
        Question {
            parameters: parameters("7b").unwrap(),
            precision: "fp32".into(),
            optimizer: "adamw".into(),
            sharding: sharding.into(),
            gpus,
            models: vec!["h100".into()],
            shape: None,
            loader: None,
            ranks_per_node: 8,
        }
    }

    /// ZeRO's own figures: 16 bytes a parameter; all of it divided in stage 3.
    #[test]
    fn the_papers_figures() {
        let total = |sharding, gpus| plan(&question(sharding, gpus)).unwrap().total;
        assert_eq!(total("ddp", 1), 7e9 * 16.0);
        assert_eq!(total("ddp", 8), 7e9 * 20.0);
        assert_eq!(total("zero1", 8), 7e9 * (8.0 + 1.0));
        assert_eq!(total("zero2", 8), 7e9 * (4.0 + 1.5));
        assert_eq!(total("fsdp", 8), 7e9 * 2.0);
    }

    #[test]
    fn a_verdict_needs_activations() {
        let mut asked = question("fsdp", 8);
        assert_eq!(plan(&asked).unwrap().verdict(), None);
        asked.shape =
            Some(Shape { layers: 32, hidden: 4096, sequence: 2048, batch: 1, checkpointing: true });
        assert_eq!(plan(&asked).unwrap().verdict(), Some(true));
        let answer = plan(&question("ddp", 8)).unwrap();
        assert_eq!((answer.verdict(), answer.fits[0].fewest), (Some(false), None));
        assert!(answer.text().contains("does not fit"), "{}", answer.text());
        asked.models = vec!["voodoo 2".into()];
        assert!(plan(&asked).is_err());
    }

    #[test]
    fn numbers_of_parameters() {
        assert_eq!(parameters("1.3B").unwrap(), 1.3e9);
        assert_eq!(parameters("124439808").unwrap(), 124_439_808.0);
        for wrong in ["", "b", "-7b", "NaN", "inf", "1e99", "7bb"] {
            assert!(parameters(wrong).is_err(), "{wrong}");
        }
    }
}
