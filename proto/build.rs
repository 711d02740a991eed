//! Generates CRI's clients and servers, and keeps the descriptor for the test that checks every number.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join("cri.bin"))
        .compile_protos(&["cri/runtime.proto"], &["."])?;
    Ok(())
}
