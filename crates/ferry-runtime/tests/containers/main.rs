//! Real containers from a static busybox. Needs root, and `/bin/busybox` (Debian's busybox-static).
//! The runtime forks, so all tests run on the main thread, one after another.

mod exec;
mod isolation;
mod limits;
mod oci;
mod rootfs;
mod support;

use libtest_mimic::{Arguments, Trial};

fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let ready = rustix::process::geteuid().is_root() && std::path::Path::new("/bin/busybox").exists();
    let all = [isolation::TESTS, limits::TESTS, rootfs::TESTS, exec::TESTS, oci::TESTS];
    let trials = all
        .into_iter()
        .flatten()
        .map(|&(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
            .with_ignored_flag(!ready)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Ok(group) = ferry_runtime::cgroup::Cgroup::open(std::path::Path::new("/ferry-runtime-tests")) {
        drop(group.remove());
    }
    conclusion.exit_code()
}
