//! GPU code that is damaged, hollow, newer than what is known, or for other GPUs than its header says.

use crate::Says;
use crate::fatbin::MAGIC;
use crate::forge::{self, Library, cubin, cubin_file, fatbin, packed, ptx};
use crate::report::{Options, Report, inspect};
use crate::scan::gpu_code;
use crate::sieve::Sieve;
use crate::tree::Tree;

fn report(name: &str, bytes: Vec<u8>) -> Report {
    let mut tree = Tree::new();
    tree.add_file(name, std::sync::Arc::new(bytes));
    let options = Options { partial: true, single: true, ..Options::default() };
    inspect(name, &tree, &options, &|_, _| {})
}

fn says(report: &Report, gpu: &str) -> (Says, String) {
    let answer = report.answer(gpu, None).unwrap();
    (answer.says, answer.sentence)
}

fn library(code: Vec<u8>) -> Vec<u8> {
    forge::Library::new("x").code(&[code]).build()
}

#[test]
fn ptx_that_is_newer_than_what_is_known() {
    for isa in [(9, 9), (10, 0)] {
        let (said, sentence) = says(&report("x.so", library(fatbin(&[ptx(80, isa)]))), "h100");
        assert_eq!(said, Says::CantTell, "{sentence}");
        assert!(sentence.contains("it is not known which driver compiles that"), "{sentence}");
    }
    let known = report("x.so", library(fatbin(&[ptx(80, (8, 4))])));
    assert_eq!(says(&known, "h100").0, Says::Yes, "{:?}", says(&known, "h100"));
    let unknown = report("x.so", library(fatbin(&[ptx(80, (9, 9))])));
    let h100 = unknown.gpus.iter().find(|verdict| verdict.capability.major == 9).unwrap();
    assert_eq!(h100.driver, None);
}

/// A container with these entries: kind, capability, flags and payload.
fn container(entries: &[(u16, u32, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, sm, payload) in entries {
        let mut payload = payload.to_vec();
        payload.resize(payload.len().next_multiple_of(8), 0);
        let mut head = [0; 64];
        head[0..2].copy_from_slice(&kind.to_le_bytes());
        head[4] = 64;
        head[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        head[24] = 0;
        head[26] = 8;
        head[28..32].copy_from_slice(&sm.to_le_bytes());
        body.extend(head);
        body.extend(payload);
    }
    let mut out = fatbin(&[]);
    out[8..16].copy_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend(body);
    out
}

#[test]
fn hollow_cubins_beside_others() {
    let hollow = cubin_file(&[".nv.info", ".data"], "", 7, 90);
    let full = cubin_file(&[".nv.info", ".text.k"], "", 7, 70);
    let text = b".version 8.0\n.target sm_70\n.address_size 64\n.visible .entry k() { ret; }\n\0";
    let with_cubin = library(container(&[(2, 90, &hollow), (2, 70, &full)]));
    let with_ptx = library(container(&[(2, 90, &hollow), (1, 70, text)]));
    assert_eq!(says(&report("x.so", with_cubin), "h100").0, Says::No);
    let (said, sentence) = says(&report("x.so", with_ptx), "h100");
    assert!(sentence.contains("the driver compiles"), "{said:?} {sentence}");
    let whole = library(packed(&[cubin_file(&[".text.k"], "", 7, 90)], 0));
    assert_eq!(says(&report("x.so", whole), "h100").0, Says::Yes);
    assert_eq!(says(&report("x.cubin", hollow), "h100").0, Says::CantTell);
}

/// As libcudnn_ext was in a cuDNN 9: cubins for six GPUs and PTX for the newest, and not one kernel in any of them.
#[test]
fn nothing_but_hollow_code() {
    let cubins: Vec<_> =
        [75, 80, 86, 90, 100, 120].map(|sm| (sm, cubin_file(&[".nv.info"], "", 7, sm))).to_vec();
    let text = b".version 9.1\n.target sm_121\n.address_size 64\n\0";
    let hollow: Vec<_> = cubins
        .iter()
        .map(|(sm, cubin)| (2, *sm, cubin.as_slice()))
        .chain([(1, 121, text.as_slice())])
        .collect();
    let all: Vec<_> = hollow.repeat(22);
    let bytes = library(container(&all));
    let code = |bytes: &Vec<u8>| gpu_code("x.so", bytes).unwrap().unwrap().gpu;
    assert!(code(&bytes).is_empty(), "{:?}", code(&bytes));

    // A kernel in the last of them counts, and is found as well where the file only passed by.
    let kernel = cubin_file(&[".nv.info", ".text.k"], "", 7, 90);
    let bytes = library(container(&[all, vec![(2, 90, &kernel)]].concat()));
    let whole = code(&bytes);
    let found: Vec<String> = whole.codes.keys().map(ToString::to_string).collect();
    assert_eq!(found, ["sm_90"]);
    for step in [1, 64, 1000, bytes.len()] {
        let mut sieve = Sieve::new(bytes.len() as u64);
        bytes.chunks(step).for_each(|piece| sieve.push(piece));
        let caught = sieve.finish("x.so").unwrap().unwrap();
        let code = gpu_code("x.so", &caught.skeleton()).unwrap().unwrap();
        assert_eq!((&code.gpu.codes, &code.gpu.sets), (&whole.codes, &whole.sets), "{step}");
    }
}

#[test]
fn ptx_is_for_whom_its_text_says() {
    let text = b".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k() { ret; }\n\0";
    let report = report("x.so", library(container(&[(1, 90, text)])));
    assert_eq!(says(&report, "h100").0, Says::Yes, "{:?}", says(&report, "h100"));
    assert_eq!(says(&report, "b200").0, Says::No, "{:?}", says(&report, "b200"));
}

/// What a header says and what the code says of itself: the driver goes by the latter.
#[test]
fn code_that_contradicts_its_header() {
    let ptx = |version: &str, target: &str, bits: u8| {
        format!(
            "/* .version 7.0 .target sm_70 */\n// .target sm_70\n.version {version}\n.target {target}, debug\n\
             .address_size {bits}\n.visible .entry k() {{ ret; }}\n\0"
        )
    };
    let cases = [
        (ptx("8.0", "sm_70", 64), "h100", Says::Yes),
        (ptx("9.9", "sm_70", 64), "h100", Says::CantTell),
        (ptx("8.0", "sm_90a", 64), "b200", Says::No),
        (ptx("8.6", "sm_100", 64), "h100", Says::No),
        (ptx("8.0", "sm_70", 32), "h100", Says::CantTell),
    ];
    for (text, gpu, wanted) in cases {
        let (said, sentence) =
            says(&report("x.so", library(container(&[(1, 70, text.as_bytes())]))), gpu);
        assert_eq!(said, wanted, "{text} {sentence}");
    }
    // ABI 8: the capability stands in the second byte, bit 3 is the suffix `a`.
    let cubin = cubin_file(&[".text.k"], "", 8, 100 << 8 | 8);
    for (header, gpu) in [(90, "h100"), (100, "b300")] {
        let bytes = library(container(&[(2, header, &cubin)]));
        let (said, sentence) = says(&report("x.so", bytes.clone()), gpu);
        assert_eq!(said, Says::No, "{gpu}: {sentence}");
        assert_eq!(says(&report("x.so", bytes), "b200").0, Says::Yes);
    }
}

#[test]
fn containers_that_are_cut_off() {
    let whole = fatbin(&[cubin(90), cubin(100)]);
    let mut cut = whole.clone();
    cut.truncate(whole.len() - 40);
    let mut lies = Vec::new();
    for size in [u64::MAX, 1 << 63] {
        let mut bytes = whole.clone();
        bytes[8..16].copy_from_slice(&size.to_le_bytes());
        lies.push(bytes);
    }
    assert_eq!(whole[..4], MAGIC.to_le_bytes());
    for bytes in lies.into_iter().chain([cut]) {
        for (name, bytes) in [("x.fatbin", bytes.clone()), ("x.so", library(bytes))] {
            let (said, sentence) = says(&report(name, bytes), "h100");
            assert_eq!(said, Says::CantTell, "{name}: {sentence}");
        }
    }
    assert_eq!(says(&report("x.fatbin", whole), "h100").0, Says::Yes);
}

#[test]
fn an_error_where_there_is_no_gpu_code() {
    let mut tree = Tree::new();
    let libc = Library::new("libc.so.6").defines(&["GLIBC_2.31"]);
    tree.add_file("usr/lib/x86_64-linux-gnu/libc.so.6", std::sync::Arc::new(libc.build()));
    let module = Library::new("").needs(&["libc.so.6"]).version("libc.so.6", "GLIBC_2.38");
    tree.add_file("opt/x/_C.so", std::sync::Arc::new(module.build()));
    let report = inspect("x", &tree, &Options::default(), &|_, _| {});
    let (said, sentence) = says(&report, "h100");
    assert_eq!(said, Says::CantTell);
    assert!(sentence.contains("needs GLIBC_2.38"), "{sentence}");
}
