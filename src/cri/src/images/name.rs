//! Image names as containerd and CRI keep them: with registry, repository and tag.

/// The full form of `name`: `busybox` becomes `docker.io/library/busybox:latest`. `None` for what is no image name.
pub(super) fn normalise(name: &str) -> Option<String> {
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    let last = rest.rsplit('/').next().unwrap_or(rest);
    let (path, tag) = match last.split_once(':') {
        Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag)),
        None => (rest, None),
    };
    let (domain, path) = match path.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest.to_owned()),
        _ => ("docker.io", path.to_owned()),
    };
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    let path = if domain == "docker.io" && !path.contains('/') {
        format!("library/{path}")
    } else {
        path
    };

    let valid = is_path(&path) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    valid.then(|| {
        let tag = tag.or(if digest.is_some() { None } else { Some("latest") });
        let tag = tag.map_or_else(String::new, |tag| format!(":{tag}"));
        let digest = digest.map_or_else(String::new, |digest| format!("@{digest}"));
        format!("{domain}/{path}{tag}{digest}")
    })
}

/// The name in an OCI `ref.name` annotation, which may also be a bare tag: `None` then.
pub(super) fn from_ref(reference: &str) -> Option<String> {
    if reference.contains(['/', ':']) {
        normalise(reference)
    } else {
        None
    }
}

/// Whether the first part of a name is a registry and not a part of the repository's path.
fn is_domain(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

fn is_path(path: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    path.split('/').all(|part| {
        part.chars().all(allowed)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    })
}

fn is_tag(tag: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    !tag.is_empty() && tag.len() <= 128 && !tag.starts_with(['.', '-']) && tag.chars().all(allowed)
}

/// `sha256:` and 64 hexadecimal digits.
pub(super) fn is_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gets_what_it_lacks() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let at_digest = format!("registry.local:5000/a/b@{digest}");
        let table = [
            ("busybox", Some("docker.io/library/busybox:latest")),
            ("busybox:1.36", Some("docker.io/library/busybox:1.36")),
            ("bosun/demo", Some("docker.io/bosun/demo:latest")),
            ("docker.io/busybox", Some("docker.io/library/busybox:latest")),
            ("index.docker.io/library/busybox:1", Some("docker.io/library/busybox:1")),
            ("localhost/demo:1", Some("localhost/demo:1")),
            ("registry.local:5000/a/b", Some("registry.local:5000/a/b:latest")),
            ("registry.local:5000/a/b:c", Some("registry.local:5000/a/b:c")),
            (at_digest.as_str(), Some(at_digest.as_str())),
            ("Upper/Case", None),
            ("", None),
            ("a//b", None),
            ("a:", None),
            ("a@sha256:12", None),
            ("a b", None),
        ];
        for (name, full) in table {
            assert_eq!(normalise(name).as_deref(), full, "{name:?}");
        }
    }

    #[test]
    fn a_bare_ref_is_a_tag_and_no_name() {
        assert_eq!(from_ref("latest"), None);
        assert_eq!(from_ref("demo:1").as_deref(), Some("docker.io/library/demo:1"));
        assert_eq!(from_ref("bosun.local/demo").as_deref(), Some("bosun.local/demo:latest"));
    }
}
