//! Frames without their size: header, check, and the decoding of what passes.
#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| ottla_wire::fuzzing::frame(frame));
