//! The kernels compile for every architecture that NVRTC knows. NVRTC comes from a wheel; no GPU is needed.

use sconce_cuda::{Nvrtc, Places, kernels, nvrtc};

/// `SCONCE_TEST_PACKAGES` names the folder into which `pip install --target` put `nvidia-cuda-nvrtc`.
#[test]
#[ignore = "needs NVRTC, which is downloaded: .ci/run does"]
fn they_compile_for_all() {
    let packages = std::env::var_os("SCONCE_TEST_PACKAGES").expect("SCONCE_TEST_PACKAGES");
    let places = Places::of_packages(&[packages.into()]);
    let nvrtc = Nvrtc::find(&places).expect("it opens").expect("it is there");
    let known = nvrtc.architectures().expect("a list");
    assert!(known.contains(&90), "{known:?}");
    for architecture in known {
        let capability = (architecture as u32 / 10, architecture as u32 % 10);
        for source in [kernels::SOURCE, nvrtc::SAXPY] {
            let image = nvrtc.compile(source, capability).expect("it compiles");
            assert_eq!(image.target, format!("sm_{architecture}"));
        }
    }
    // A GPU newer than the compiler gets PTX of the newest that it knows.
    let image = nvrtc.compile(kernels::SOURCE, (99, 0)).expect("it compiles");
    assert!(image.target.starts_with("compute_"), "{}", image.target);
    let refused = nvrtc.compile(c"this is not C", (9, 0)).expect_err("no kernel").to_string();
    assert!(refused.starts_with("the kernel was not compiled: sconce.cu(1)"), "{refused}");
}
