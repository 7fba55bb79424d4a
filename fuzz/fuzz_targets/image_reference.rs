#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferry_testkit::targets::image_reference(data));
