//! Blocks of headers: name and value pairs, compressed with one zlib stream a direction, which begins with a dictionary
//! (SPDY/3, section 2.6.10).

use bytes::{Buf, BufMut, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;

/// No block is longer, in bytes, neither compressed nor plain.
pub const MAX_BLOCK: usize = 16 << 10;

/// A stream's headers. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// These.
    pub fn new<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        let pairs = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        Self(pairs.into())
    }

    /// The value of a name that is given in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| &**value)
    }
}

/// Makes blocks.
pub(super) struct Compressor(Compress);

impl Compressor {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress
            .set_dictionary(&dictionary())
            .expect("a dictionary may be set before the first byte");
        Self(compress)
    }

    /// The block of `headers`.
    pub(super) fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.put_u32(headers.0.len() as u32);
        for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(text.len() as u32);
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            let taken = (self.0.total_in() - start) as usize;
            self.0
                .compress_vec(&plain[taken..], &mut block, FlushCompress::Sync)
                .expect("compressing into memory does not fail");
            // A flush is over when it leaves room.
            if block.len() < block.capacity() {
                return block;
            }
            block.reserve(256);
        }
    }
}

/// Reads blocks, all of a direction in their order.
pub(super) struct Decompressor(Decompress);

impl Decompressor {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of a `block`.
    pub(super) fn headers(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        parse(self.plain(block)?.into())
    }

    fn plain(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let taken = (self.0.total_in() - start) as usize;
            match self
                .0
                .decompress_vec(&block[taken..], &mut plain, FlushDecompress::Sync)
            {
                Ok(Status::StreamEnd) => return Err(SpdyError::Headers("ends the compression")),
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| SpdyError::Headers("was compressed with another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(SpdyError::Headers("is not compressed with zlib")),
            }
            if plain.len() < plain.capacity() {
                let taken = (self.0.total_in() - start) as usize;
                return if taken == block.len() {
                    Ok(plain)
                } else {
                    Err(SpdyError::Headers("is not compressed with zlib"))
                };
            }
            if plain.len() > MAX_BLOCK {
                return Err(SpdyError::Headers("is too large"));
            }
            plain.reserve(plain.len());
        }
    }
}

fn parse(mut plain: Bytes) -> Result<Headers, SpdyError> {
    let count = plain.try_get_u32().map_err(|_| SpdyError::Headers("breaks off"))?;
    let mut text = || {
        let length = plain.try_get_u32().map_err(|_| SpdyError::Headers("breaks off"))? as usize;
        if length > plain.remaining() {
            return Err(SpdyError::Headers("breaks off"));
        }
        // Go's writer sends bytes as they are; what is not UTF-8 is nothing that anybody here looks for.
        Ok(String::from_utf8_lossy(&plain.split_to(length)).into_owned())
    };
    let mut pairs = Vec::new();
    for _ in 0..count {
        let name = text()?.to_ascii_lowercase();
        pairs.push((name, text()?));
    }
    Ok(Headers(pairs))
}

/// What both sides have in common before the first block: names and values with their lengths, then a tail of text.
fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS.split(',') {
        dictionary.put_u32(word.len() as u32);
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(TAIL.as_bytes());
    dictionary
}

const WORDS: &str = "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,\
accept-ranges,age,allow,authorization,cache-control,connection,content-base,content-encoding,content-language,\
content-length,content-location,content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,\
if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,\
proxy-authenticate,proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,user-agent,\
vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,keep-alive,origin";

const TAIL: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052\
03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_standard() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        let (a, b) = dictionary.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        // The Adler-32 that a zlib stream names its dictionary by.
        assert_eq!(b << 16 | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_a_direction_share_one_compression() {
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
        let mut lengths = Vec::new();
        for stream in ["error", "stdin", "stdout", "stdout"] {
            let headers = Headers::new([("streamType", stream), ("requestID", "0")]);
            let block = compressor.block(&headers);
            lengths.push(block.len());
            let read = decompressor.headers(&block).unwrap();
            assert_eq!(read, headers);
            assert_eq!(read.get("streamtype"), Some(stream));
        }
        assert!(lengths[3] < lengths[0], "{lengths:?}");
    }

    #[test]
    fn a_block_that_unfolds_beyond_the_limit_is_refused() {
        let value = "a".repeat(1 << 20);
        let block = Compressor::new().block(&Headers::new([("a", &value)]));
        assert!(block.len() < MAX_BLOCK);
        let error = Decompressor::new().headers(&block).unwrap_err();
        assert!(matches!(error, SpdyError::Headers("is too large")), "{error}");
    }

    #[test]
    fn a_count_that_is_not_kept_is_refused_without_making_room_for_it() {
        for plain in [
            &[0xff, 0xff, 0xff, 0xff][..],
            &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1],
            &[0],
        ] {
            assert!(parse(Bytes::copy_from_slice(plain)).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::vec(("[a-z-]{0,12}", "\\PC{0,40}"), 0..20)) {
            let headers = Headers(pairs);
            let mut decompressor = Decompressor::new();
            let block = Compressor::new().block(&headers);
            prop_assert_eq!(decompressor.headers(&block).unwrap(), headers);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            block in proptest::collection::vec(any::<u8>(), 0..200),
            plain in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = Decompressor::new().headers(&block);
            let _ = parse(plain.into());
        }
    }
}
