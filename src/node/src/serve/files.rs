//! Files beneath the logs' directory, as upstream serves `/var/log`: nothing above it, whatever links say.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode, header};
use tokio::{fs::File, io::AsyncReadExt};

use super::body::{self, Body, text};

/// Bytes at a time.
const CHUNK: usize = 64 << 10;
/// Names of a directory that are told.
const MOST: usize = 10_000;

enum Found {
    File(fs::File),
    Directory(Vec<String>),
}

/// A file's content, or the names in a directory.
pub(super) async fn answer(root: &Path, path: &str) -> Response<Body> {
    let Some(relative) = relative(path) else {
        return text(StatusCode::BAD_REQUEST, "invalid URL path\n");
    };
    let root = root.to_owned();
    let found = tokio::task::spawn_blocking(move || open(&root, &relative)).await;
    match found {
        Ok(Ok(Found::File(file))) => {
            let file = File::from_std(file);
            let chunks = stream::try_unfold(file, |mut file| async {
                let mut chunk = Vec::with_capacity(CHUNK);
                let read = file.read_buf(&mut chunk).await?;
                Ok((read > 0).then(|| (Bytes::from(chunk), file)))
            });
            let mut response = Response::new(body::stream(chunks));
            let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Ok(Ok(Found::Directory(names))) => {
            let link = |name: String| {
                let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
                format!("<a href=\"{name}\">{name}</a>\n")
            };
            let links: String = names.into_iter().map(link).collect();
            let mut response = text(StatusCode::OK, format!("<pre>\n{links}</pre>\n"));
            let kind = http::HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            text(StatusCode::NOT_FOUND, "404 page not found\n")
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            text(StatusCode::FORBIDDEN, "403 Forbidden\n")
        }
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// A path's words, with their escapes resolved, if none of them leads upwards.
fn relative(path: &str) -> Option<PathBuf> {
    let mut bytes = path.bytes();
    let mut plain = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            (digit()? * 16 + digit()?) as u8
        } else {
            byte
        });
    }
    let plain = String::from_utf8(plain).ok().filter(|plain| !plain.contains('\0'))?;
    let path = PathBuf::from(plain);
    let inward = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    inward.then_some(path)
}

fn open(root: &Path, relative: &Path) -> io::Result<Found> {
    // Links within the directory are followed (containers' logs are links), those that lead out of it are not.
    let root = root.canonicalize()?;
    let path = root.join(relative).canonicalize()?;
    if !path.starts_with(&root) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let kind = fs::metadata(&path)?;
    if kind.is_dir() {
        let mut names = Vec::new();
        for entry in fs::read_dir(&path)?.take(MOST) {
            let entry = entry?;
            let mut name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                name.push('/');
            }
            names.push(name);
        }
        names.sort();
        return Ok(Found::Directory(names));
    }
    // A pipe would be waited for.
    if !kind.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(Found::File(fs::File::open(path)?))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn nothing_outside_the_directory_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        fs::create_dir_all(root.join("pods")).unwrap();
        fs::write(root.join("pods/a.log"), "within").unwrap();
        fs::write(dir.path().join("secret"), "without").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("pods/a.log", root.join("in")).unwrap();
        for (path, code, said) in [
            ("pods/a.log", 200, "within"),
            ("in", 200, "within"),
            ("pods", 200, "<pre>\n<a href=\"a.log\">a.log</a>\n</pre>\n"),
            ("out", 403, ""),
            ("../secret", 400, ""),
            ("pods/%2e%2e/%2e%2e/secret", 400, ""),
            ("%00", 400, ""),
            ("none", 404, ""),
        ] {
            let response = answer(&root, path).await;
            assert_eq!(response.status(), code, "{path}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            if !said.is_empty() {
                assert_eq!(body, said, "{path}");
            }
        }
    }
}
