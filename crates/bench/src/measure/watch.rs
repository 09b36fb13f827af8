//! What NVML sees while something is measured.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sconce_cuda::{Cuda, Device};
use sconce_gpu::nvml::Silence;
use sconce_gpu::nvml::reading::Identity;
use sconce_gpu::nvml::session::{Moment, Session};

use super::clock::median;
use super::{WITHOUT_NVML, believed};
use crate::answer::{Board, Evidence, Line, Unavailable};
use crate::bound::product_named;
use crate::figures::NVML;

/// How often NVML is asked.
const EVERY: Duration = Duration::from_millis(50);
/// How long NVML may take for its first answers: about two seconds a GPU where no persistence daemon keeps it ready.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take for one moment of all GPUs, when it has answered before: some milliseconds each.
const ANSWER: Duration = Duration::from_secs(5);
/// What is not known without NVML.
pub(super) const NOT_KNOWN: &str = "clocks, power, limits and links of the GPUs are not known";
/// Moments that are kept: half an hour of 16 GPUs.
const MOST: usize = 600_000;

/// Asks NVML again and again until it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    over: bool,
    /// When NVML was asked what it has not answered yet.
    asked: Option<Instant>,
    moments: Vec<(Instant, usize, Moment)>,
    /// A GPU that answered once and then no more, or of which NVML said that it is lost, in words.
    /// Or why NVML did not start, with no GPU.
    lost: Option<(Option<usize>, String)>,
}

/// `NVML_ERROR_FUNCTION_NOT_FOUND`.
const MISSING: i32 = 13;

/// What NVML knows of a GPU before anything runs.
#[derive(Default)]
pub(super) struct Known {
    pub(super) driver: Option<String>,
    pub(super) board: Option<Board>,
    pub(super) others: Option<u32>,
    pub(super) mig: Option<bool>,
    pub(super) name: Option<String>,
    pub(super) twin: Option<u32>,
    /// Without `GPU-`.
    pub(super) uuid: Option<String>,
    /// NVML said that it is lost, in words.
    pub(super) lost: Option<String>,
}

/// NVML's handle for a device; or the code with which it said that the device is lost.
type Place = Result<Option<usize>, i32>;

/// A session, and where each device is in it.
fn session(devices: &[Device]) -> Result<(Session, Vec<Place>), Silence> {
    if std::env::var_os(WITHOUT_NVML).is_some() {
        let (library, reason) = ("libnvidia-ml.so.1".into(), "it is not asked".to_owned());
        return Err(Silence::Library { library, reason });
    }
    let session = Session::open("libnvidia-ml.so.1".as_ref())?;
    let place = |device: &Device| {
        _ = Session::lost();
        let place = device.bus_id.as_deref().and_then(|id| session.by_bus_id(id));
        Session::lost().map_or(Ok(place), Err)
    };
    let places = devices.iter().map(place).collect();
    Ok((session, places))
}

impl Watch {
    /// Watches nothing, and asks neither CUDA nor NVML.
    pub fn nothing() -> Self {
        Self { seen: Arc::default() }
    }

    /// Watches all that CUDA shows; nothing, where there is no CUDA.
    pub fn all() -> Self {
        let cuda = Cuda::open(Path::new("libcuda.so.1"));
        Self::start(&cuda.and_then(|cuda| cuda.devices()).unwrap_or_default(), false)
    }

    /// Watches these; where NVML has answered before, and does not start now, that is said.
    pub(super) fn start(devices: &[Device], answered_before: bool) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (devices, shared) = (devices.to_vec(), Arc::clone(&seen));
        // Without the thread there is no evidence, and the figures stand without it.
        drop(thread::Builder::new().name("nvml".into()).spawn(move || {
            let (session, places) = match session(&devices) {
                Ok(both) => both,
                Err(silence) => {
                    if let (true, Ok(mut seen)) = (answered_before, shared.lock()) {
                        seen.lost = Some((None, silence.to_string()));
                    }
                    return;
                }
            };
            let gone =
                |(gpu, place): (usize, &Place)| Some((Some(gpu), of_a_call(gpu, place.err()?)));
            let gone = places.iter().enumerate().find_map(gone);
            match shared.lock() {
                Ok(mut seen) => seen.lost = gone,
                Err(_) => return,
            }
            let places: Vec<_> = places.into_iter().map(|place| place.ok().flatten()).collect();
            let products: Vec<_> =
                devices.iter().map(|device| product_named(&device.name)).collect();
            let mut answered = vec![false; places.len()];
            loop {
                let now = Instant::now();
                match shared.lock() {
                    Ok(mut seen) => seen.asked = Some(now),
                    Err(_) => return,
                }
                let mut lost = None;
                let moment = |(gpu, place): (usize, &Option<usize>)| {
                    let moment = session.moment((*place)?);
                    let says = moment.sm_mhz.is_some() || moment.power_mw.is_some();
                    let once = answered.get_mut(gpu)?;
                    if *once && !says {
                        let why = why_lost(&session, *place);
                        lost.get_or_insert((
                            Some(gpu),
                            format!("it answered for GPU {gpu} no more: {why}"),
                        ));
                    } else if let Some(code) = moment.lost {
                        lost.get_or_insert((Some(gpu), of_a_call(gpu, code)));
                    }
                    *once |= says;
                    Some((now, gpu, believed::moment(moment, *products.get(gpu)?)))
                };
                let moments: Vec<_> = places.iter().enumerate().filter_map(moment).collect();
                let Ok(mut seen) = shared.lock() else { return };
                if seen.over {
                    return;
                }
                seen.asked = None;
                seen.lost = seen.lost.take().or(lost);
                if seen.moments.len() < MOST {
                    seen.moments.extend(moments);
                }
                drop(seen);
                thread::sleep(EVERY);
            }
        }));
        Self { seen }
    }

    /// NVML does not come back from a question. One that is under way is waited for, as long as an answer may take: what was
    /// measured does not wait for it, and the end of a group does once.
    fn hangs(&self) -> bool {
        let asked = || self.seen.lock().ok().and_then(|seen| seen.asked);
        let Some(first) = asked() else { return false };
        while first.elapsed() < ANSWER {
            thread::sleep(EVERY);
            if asked() != Some(first) {
                return false;
            }
        }
        true
    }

    /// That NVML does not answer any more, where it is so, and what was measured meanwhile.
    pub fn silence(&self, during: &str) -> Option<Line> {
        let reason = || {
            let waited = ANSWER.as_secs();
            format!(
                "no answer for {waited} s while `{during}` was measured: clocks, power and what holds them down are known until then"
            )
        };
        self.hangs().then(|| {
            let figure = NVML.to_owned();
            Line::Unavailable(Unavailable { figure, gpus: Vec::new(), reason: reason() })
        })
    }

    /// A GPU of which NVML says nothing any more, or that it is lost, where there is one; or why NVML did not start.
    pub fn lost(&self, during: &str) -> Option<Line> {
        let (gpu, what) = self.seen.lock().ok()?.lost.clone()?;
        let reason = format!(
            "while `{during}` was measured, {what}; clocks, power and what holds them down are known until then"
        );
        let gpus = gpu.map(|gpu| u32::try_from(gpu).unwrap_or_default()).into_iter().collect();
        Some(Line::Unavailable(Unavailable { figure: NVML.to_owned(), gpus, reason }))
    }

    /// What was seen of a GPU since then.
    pub fn since(&self, begun: Instant, gpu: usize) -> Option<Evidence> {
        let seen = self.seen.lock().ok()?;
        let moments: Vec<Moment> = seen
            .moments
            .iter()
            .filter(|(at, which, _)| *at >= begun && *which == gpu)
            .map(|(_, _, moment)| *moment)
            .collect();
        drop(seen);
        (!moments.is_empty()).then(|| evidence(&moments))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.over = true;
        }
    }
}

/// Why NVML says nothing of a GPU any more.
fn why_lost(session: &Session, place: Option<usize>) -> String {
    match place.map(|place| session.presence(place)) {
        Some(Err(code)) => by_code(code),
        _ => "it names neither clock nor power any more".to_owned(),
    }
}

fn of_a_call(gpu: usize, code: i32) -> String {
    format!("of a call about GPU {gpu}, {}", by_code(code))
}

fn by_code(code: i32) -> String {
    format!("NVML's code is {code} ({})", sconce_gpu::nvml::say(code))
}

fn evidence(moments: &[Moment]) -> Evidence {
    let all = |which: fn(&Moment) -> Option<f64>| -> Vec<f64> {
        moments.iter().filter_map(which).collect()
    };
    let most = |numbers: &[f64]| numbers.iter().copied().reduce(f64::max);
    let least = |numbers: &[f64]| numbers.iter().copied().reduce(f64::min);
    let clocks = all(|moment| moment.sm_mhz.map(f64::from));
    let memory = all(|moment| moment.memory_mhz.map(f64::from));
    let power = all(|moment| moment.power_mw.map(|power| f64::from(power) / 1e3));
    let heat = all(|moment| moment.temperature_c.map(f64::from));
    let reasons: Vec<u64> = moments.iter().filter_map(|moment| moment.reasons).collect();
    let links: Vec<(u32, u32)> = moments.iter().filter_map(|moment| moment.pcie).collect();
    let most_of = |which: fn(&(u32, u32)) -> u32| links.iter().map(which).max();
    let share = |bit: u64| {
        let had = reasons.iter().filter(|reasons| *reasons & bit != 0).count();
        had as f64 / reasons.len().max(1) as f64
    };
    Evidence {
        samples: u32::try_from(moments.len()).unwrap_or(u32::MAX),
        sm_mhz: least(&clocks).zip(most(&clocks)).map(|(a, b)| (a, median(&clocks), b)),
        memory_mhz: (!memory.is_empty()).then(|| median(&memory)),
        power_w: most(&power).map(|most| (median(&power), most)),
        temperature_c: most(&heat),
        reasons: (0..16)
            .map(|bit| (1u64 << bit, share(1 << bit)))
            .filter(|(_, share)| *share > 0.0)
            .collect(),
        pcie: most_of(|link| link.0).zip(most_of(|link| link.1)),
    }
}

/// What NVML knows of each device; `None` where it does not answer in time. Its first call can hang with the driver, in the
/// kernel, where nothing ends it: whoever asks must not.
pub(super) fn boards(devices: &[Device]) -> Option<(Vec<Known>, Option<String>)> {
    let (send, answer) = mpsc::channel();
    let all = devices.to_vec();
    let asking = thread::Builder::new().name("nvml".into()).spawn(move || {
        // Nobody may wait any more.
        drop(send.send(known(&all)));
    });
    match asking {
        Ok(_) => answer.recv_timeout(PATIENCE).ok(),
        Err(_) => None,
    }
}

/// With it why NVML can't be asked, where it is there and does not start.
fn known(devices: &[Device]) -> (Vec<Known>, Option<String>) {
    let (session, places) = match session(devices) {
        Ok(both) => both,
        Err(silence) => {
            let one = |at| Known { twin: twin(devices, &[], at), ..Known::default() };
            // Where there is no NVML, as in WSL's older drivers, there is nothing to say.
            let there = !matches!(silence, Silence::Library { .. });
            let why = there.then(|| format!("{silence}: {NOT_KNOWN}"));
            return ((0..devices.len()).map(one).collect(), why);
        }
    };
    // What one of a GPU's calls is answered with is not to be lost among the others'.
    let asked = |place: &Place| {
        let place = (*place)?;
        _ = Session::lost();
        let its = place.map(|place| (session.identity(place), session.limits(place)));
        Ok((its, Session::lost()))
    };
    let answers: Vec<Result<_, i32>> = places.iter().map(asked).collect();
    let its = |at: usize| answers.get(at)?.as_ref().ok()?.0.as_ref();
    _ = Session::lost();
    let driver = session.driver();
    let by_driver =
        Session::lost().map(|code| format!("asked which driver it is, {}", by_code(code)));
    let identities: Vec<Identity> =
        (0..places.len()).map(|at| its(at).map(|its| its.0.clone()).unwrap_or_default()).collect();
    let one = |at: usize| {
        let product = devices.get(at).and_then(|device| product_named(&device.name));
        let limits = its(at).map(|its| believed::limits(its.1, product));
        let lost = match answers.get(at) {
            Some(Err(code)) => Some(*code),
            Some(Ok((_, lost))) => *lost,
            None => None,
        };
        let name = identities.get(at).and_then(|its| its.name.clone());
        Known {
            name: name.filter(|name| !name.is_empty()),
            twin: twin(devices, &identities, at),
            uuid: identities.get(at).and_then(|its| {
                let uuid = its.uuid.as_deref().filter(|uuid| !uuid.is_empty())?;
                Some(uuid.strip_prefix("GPU-").unwrap_or(uuid).to_owned())
            }),
            driver: driver.clone(),
            board: limits.map(|limits| Board {
                power_limit_w: limits.power_limit_mw.map(|power| f64::from(power) / 1e3),
                power_default_w: limits.power_default_mw.map(|power| f64::from(power) / 1e3),
                sm_max_mhz: limits.sm_max_mhz,
                pcie_generation: limits.pcie_generation,
                pcie_lanes: limits.pcie_lanes,
            }),
            others: limits.and_then(|limits| limits.processes),
            mig: limits.and_then(|limits| limits.mig),
            lost: lost.map(|code| of_a_call(at, code)),
        }
    };
    // An older library has no such function.
    let uncounted = session.count().err().filter(|code| *code != MISSING);
    let by_count =
        uncounted.map(|code| format!("asked how many GPUs there are, {}", by_code(code)));
    let why: Vec<String> = by_driver.into_iter().chain(by_count).collect();
    let why = (!why.is_empty()).then(|| why.join("; "));
    ((0..places.len()).map(one).collect(), why)
}

/// Another device that has this one's UUID, as CUDA or as NVML says it. Instances of MIG at one place on the bus are one GPU for
/// NVML, and have UUIDs of their own for CUDA.
fn twin(devices: &[Device], identities: &[Identity], at: usize) -> Option<u32> {
    let own = devices.get(at)?;
    let uuid = |at: usize| identities.get(at)?.uuid.as_deref().filter(|uuid| !uuid.is_empty());
    let same = |(other, device): &(usize, &Device)| {
        let by_cuda = own.uuid.is_some() && own.uuid == device.uuid;
        let by_nvml = uuid(at).is_some() && uuid(at) == uuid(*other) && own.bus_id != device.bus_id;
        *other != at && (by_cuda || by_nvml)
    };
    let (_, other) = devices.iter().enumerate().find(same)?;
    u32::try_from(other.ordinal).ok()
}
