//! The sandbox image: our pause program and nothing else, carried by this program, so that none is pulled.

use crate::archive::{Archive, Entry, host_architecture};

/// Name of the sandbox image.
pub const SANDBOX_IMAGE: &str = concat!("bosun.dev/pause:", env!("CARGO_PKG_VERSION"));

/// The sandbox image, for the machine this program was built for.
pub fn sandbox_image() -> Archive {
    Archive {
        name: SANDBOX_IMAGE.into(),
        architecture: host_architecture().into(),
        entrypoint: vec!["/pause".into()],
        working_dir: "/".into(),
        files: vec![Entry::file("pause", 0o755, bosun_pause::PROGRAM)],
        ..Archive::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_image_is_one_program_of_less_than_64_kib() {
        let archive = sandbox_image().to_bytes().expect("a valid image");
        assert!(archive.len() < 64 * 1024, "{} bytes", archive.len());
        assert_eq!(sandbox_image().files.len(), 1);
    }

    #[test]
    fn the_sandbox_image_has_the_same_id_each_time_it_is_written() {
        assert_eq!(
            sandbox_image().digests().expect("valid"),
            sandbox_image().digests().expect("valid")
        );
    }
}
