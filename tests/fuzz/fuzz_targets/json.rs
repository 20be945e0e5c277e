#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    anabranch_fuzz::targets::run("json", input);
});
