//! Where the last lines of a file begin.

use std::io::{self, SeekFrom};

use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

/// Bytes read at a time, from the end backwards.
const BLOCK: u64 = 64 << 10;

/// Where the last `lines` lines begin. Parts of lines count as lines, as upstream has it; what is written after the last
/// line break is no line yet.
pub(super) async fn start(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    // The line before begins after the break before the last of the lines wanted.
    let mut breaks = 0;
    let mut block = Vec::new();
    let mut at = end;
    while at > 0 {
        let from = at.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(from)).await?;
        block.resize((at - from) as usize, 0);
        file.read_exact(&mut block).await?;
        for (index, byte) in block.iter().enumerate().rev() {
            if *byte == b'\n' {
                if breaks == lines {
                    return Ok(from + index as u64 + 1);
                }
                breaks += 1;
            }
        }
        at = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(content: &[u8], lines: u64) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, content).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { start(&mut File::open(&path).await.unwrap(), lines).await.unwrap() })
    }

    #[test]
    fn the_last_lines_are_found_across_blocks() {
        let line = format!("{}\n", "x".repeat(40_000));
        let content = line.repeat(5);
        for lines in 0..8 {
            let expected = line.len() * 5_usize.saturating_sub(lines);
            assert_eq!(found(content.as_bytes(), lines as u64), expected as u64, "{lines}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn as_many_lines_follow_as_were_wanted(content in "[a\n]{0,30}\n", lines in 0..6_u64) {
            let rest = &content[found(content.as_bytes(), lines) as usize..];
            let (all, got) = (content.matches('\n').count(), rest.matches('\n').count());
            prop_assert_eq!(got, all.min(lines as usize));
        }
    }
}
