#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferry_testkit::targets::dns_message(data));
