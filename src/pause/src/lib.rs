//! The pause program of a pod sandbox, as bytes.
//!
//! `program/pause.rs` is the program; `build.rs` compiles it without any library for the machine the product is built
//! for; [`PROGRAM`] is the result. `bosun-cri` packs it as an OCI image, so that no sandbox image is pulled.

/// The pause program: a static ELF executable of a few KiB.
pub const PROGRAM: &[u8] = include_bytes!(env!("BOSUN_PAUSE_PROGRAM"));

#[cfg(test)]
mod tests {
    use super::PROGRAM;

    /// Types of the ELF program headers that would mean a dynamic linker or relocations at start.
    const PT_DYNAMIC: u32 = 2;
    const PT_INTERP: u32 = 3;

    fn number<const N: usize>(offset: usize) -> [u8; N] {
        PROGRAM[offset..offset + N].try_into().expect("N bytes")
    }

    fn program_header_types() -> Vec<u32> {
        let (offset, size, count) = (
            u64::from_le_bytes(number(32)) as usize,
            usize::from(u16::from_le_bytes(number(54))),
            usize::from(u16::from_le_bytes(number(56))),
        );
        (0..count)
            .map(|n| u32::from_le_bytes(number(offset + n * size)))
            .collect()
    }

    #[test]
    fn the_program_is_a_64_bit_elf_executable_of_a_few_kib() {
        assert_eq!(&PROGRAM[..6], b"\x7fELF\x02\x01");
        assert!(PROGRAM.len() < 64 * 1024, "{} bytes", PROGRAM.len());
    }

    #[test]
    fn the_program_needs_no_interpreter_and_no_relocation() {
        let types = program_header_types();
        assert!(!types.is_empty());
        assert!(!types.contains(&PT_INTERP) && !types.contains(&PT_DYNAMIC), "{types:?}");
    }
}
