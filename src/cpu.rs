//! Whether this CPU has the instruction sets that the program was built for; see `.cargo/config.toml`.
//!
//! Without this check an older CPU ends the program with an illegal instruction and no word.

use std::fs;

/// What x86-64-v3 adds that this code makes use of, by the names of /proc/cpuinfo.
const NEEDED: [&str; 5] = ["avx2", "bmi1", "bmi2", "fma", "movbe"];

/// Says what is missing and what to do.
pub fn check() -> Result<(), String> {
    if !cfg!(all(target_arch = "x86_64", target_feature = "avx2")) {
        return Ok(());
    }
    // Without the file nothing is known, and nothing is refused.
    let Ok(text) = fs::read_to_string("/proc/cpuinfo") else { return Ok(()) };
    let missing = missing(&text);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this CPU lacks {}: the program is built for x86-64-v3 (any server since 2015); build it with \
         RUSTFLAGS=-Ctarget-cpu=x86-64-v2 for older ones, or give the virtual machine its host's CPU model",
        missing.join(", ")
    ))
}

/// The needed flags that the first CPU of /proc/cpuinfo does not have.
fn missing(cpuinfo: &str) -> Vec<&'static str> {
    let Some(line) = cpuinfo.lines().find(|line| line.starts_with("flags")) else { return vec![] };
    let flags: Vec<&str> = line.split_whitespace().collect();
    NEEDED.into_iter().filter(|needed| !flags.contains(needed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let old = "processor\t: 0\nflags\t\t: fpu sse4_2 bmi1 movbe avx\nbogomips: 1\n";
        assert_eq!(missing(old), ["avx2", "bmi2", "fma"]);
        assert!(missing("flags\t\t: movbe fma bmi2 bmi1 avx2 x").is_empty());
        assert!(missing("Features: asimd").is_empty(), "not an x86");
    }

    #[test]
    fn this_machine_can_run_what_it_builds() {
        assert_eq!(check(), Ok(()));
    }
}
