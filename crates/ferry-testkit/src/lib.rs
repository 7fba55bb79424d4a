//! What reads bytes from strangers, each as a function of bytes that must neither panic nor hang nor break its
//! own rules: the targets that `fuzz/` hands to libFuzzer and that `tests/fuzz.rs` runs for a moment in every
//! test run, with seeds and a mutator that need no special compiler.

#![forbid(unsafe_code)]

pub mod mutate;
pub mod seeds;
pub mod targets;

/// A target and what its inputs look like.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, as in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// What is done with an input; a panic is a finding.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that inputs are made of.
    pub words: &'static [&'static str],
    /// Whether inputs are tars, whose header sums are put right half of the time.
    pub tar: bool,
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target {
        name: "image_reference",
        run: targets::image_reference,
        seeds: seeds::references,
        words: seeds::REFERENCE_WORDS,
        tar: false,
    },
    Target {
        name: "tar_layer",
        run: targets::tar_layer,
        seeds: seeds::tars,
        words: seeds::TAR_WORDS,
        tar: true,
    },
    Target {
        name: "image_archive",
        run: targets::image_archive,
        seeds: seeds::archives,
        words: seeds::TAR_WORDS,
        tar: true,
    },
    Target {
        name: "create_body",
        run: targets::create_body,
        seeds: seeds::bodies,
        words: seeds::BODY_WORDS,
        tar: false,
    },
    Target {
        name: "dns_message",
        run: targets::dns_message,
        seeds: seeds::dns_messages,
        words: seeds::DNS_WORDS,
        tar: false,
    },
    Target { name: "ports", run: targets::ports, seeds: seeds::ports, words: seeds::PORT_WORDS, tar: false },
    Target {
        name: "mounts",
        run: targets::mounts,
        seeds: seeds::mounts,
        words: seeds::MOUNT_WORDS,
        tar: false,
    },
    Target {
        name: "filters",
        run: targets::filters,
        seeds: seeds::filters,
        words: seeds::FILTER_WORDS,
        tar: false,
    },
    Target {
        name: "template",
        run: targets::template,
        seeds: seeds::templates,
        words: seeds::TEMPLATE_WORDS,
        tar: false,
    },
    Target {
        name: "log_file",
        run: targets::log_file,
        seeds: seeds::logs,
        words: seeds::LOG_WORDS,
        tar: false,
    },
];
