use std::collections::BTreeMap;
use std::io::Read as _;

use super::*;

fn image(files: Vec<Entry>) -> Archive {
    Archive {
        name: "bosun.dev/thing:1".into(),
        architecture: "amd64".into(),
        files,
        ..Archive::default()
    }
}

fn full() -> Archive {
    Archive {
        entrypoint: vec!["/bin/thing".into()],
        cmd: vec!["--serve".into()],
        env: vec!["PATH=/bin".into()],
        working_dir: "/www".into(),
        ..image(vec![
            Entry::file("bin/thing", 0o755, b"program".as_slice()),
            Entry::symlink("bin/alias", "thing"),
            Entry::directory("tmp", 0o1777),
            Entry::file("a/b/c", 0o600, b"".as_slice()),
        ])
    }
}

/// One path of a tar file as it was read back.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    modified: u64,
    link: Option<String>,
    bytes: Vec<u8>,
}

/// The paths of a tar file in their order, each once.
fn read(bytes: &[u8]) -> Vec<(String, Read)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("a tar file").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        let header = entry.header();
        let read = Read {
            kind: header.entry_type(),
            mode: header.mode().expect("a mode"),
            owner: (header.uid().expect("a user"), header.gid().expect("a group")),
            modified: header.mtime().expect("a time"),
            link: entry
                .link_name()
                .expect("a link name")
                .map(|target| target.display().to_string()),
            bytes,
        };
        (entry.path().expect("a path").display().to_string(), read)
    });
    entries.collect()
}

/// An archive followed from its index down, every digest and size checked on the way.
struct Followed {
    index: Value,
    config: Value,
    layer: Vec<u8>,
    digests: Digests,
}

fn follow(archive: &[u8]) -> Followed {
    let files: BTreeMap<String, Vec<u8>> = read(archive)
        .into_iter()
        .map(|(path, read)| (path, read.bytes))
        .collect();
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let hex = digest.strip_prefix("sha256:").expect("of sha256");
        let bytes = &files[&format!("blobs/sha256/{hex}")];
        assert_eq!(sha256(bytes), hex);
        assert_eq!(descriptor["size"], bytes.len());
        bytes.clone()
    };
    assert_eq!(json(&files["oci-layout"]), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = json(&files["index.json"]);
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    let manifest = json(&blob(&index["manifests"][0]));
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
    let config = json(&blob(&manifest["config"]));
    let layer = blob(&manifest["layers"][0]);
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([manifest["layers"][0]["digest"]]),
        "an uncompressed layer"
    );
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let digests = Digests {
        image_id: text(&manifest["config"]["digest"]),
        manifest: text(&index["manifests"][0]["digest"]),
    };
    Followed {
        index,
        config,
        layer,
        digests,
    }
}

#[test]
fn digests_are_written_in_hexadecimal() {
    assert_eq!(
        sha256(b""),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn every_digest_and_size_names_what_is_there() {
    for archive in [image(Vec::new()), full()] {
        let mut bytes = Vec::new();
        let digests = archive.write(&mut bytes).expect("a valid image");
        assert_eq!(follow(&bytes).digests, digests);
        assert_eq!(archive.digests().expect("a valid image"), digests);
        assert_eq!(archive.to_bytes().expect("a valid image"), bytes);
    }
}

#[test]
fn the_layer_holds_the_files_sorted_with_their_parents_first() {
    let entry = |kind, mode, link: Option<&str>, bytes: &[u8]| Read {
        kind,
        mode,
        owner: (0, 0),
        modified: 0,
        link: link.map(str::to_owned),
        bytes: bytes.to_vec(),
    };
    let directory = |mode| entry(tar::EntryType::Directory, mode, None, b"");
    let expected = [
        ("a", directory(0o755)),
        ("a/b", directory(0o755)),
        ("a/b/c", entry(tar::EntryType::Regular, 0o600, None, b"")),
        ("bin", directory(0o755)),
        ("bin/alias", entry(tar::EntryType::Symlink, 0o777, Some("thing"), b"")),
        ("bin/thing", entry(tar::EntryType::Regular, 0o755, None, b"program")),
        ("tmp", directory(0o1777)),
    ]
    .map(|(path, read)| (path.to_owned(), read));
    let archive = follow(&full().to_bytes().expect("a valid image"));
    assert_eq!(read(&archive.layer), expected);
}

#[test]
fn long_paths_and_link_targets_survive() {
    let long = format!("{}/file", "directory/".repeat(30).trim_end_matches('/'));
    let archive = image(vec![
        Entry::file(&long, 0o644, b"x".as_slice()),
        Entry::symlink("link", format!("/{long}")),
    ]);
    let layer = read(&follow(&archive.to_bytes().expect("a valid image")).layer);
    assert!(layer.iter().any(|(path, read)| *path == long && read.bytes == b"x"));
    assert!(
        layer
            .iter()
            .any(|(path, read)| path == "link" && read.link == Some(format!("/{long}")))
    );
}

#[test]
fn the_index_names_the_image_for_containerd_and_by_tag() {
    let table = [
        ("bosun.dev/demo:1", "1"),
        ("localhost/a/b/c:latest", "latest"),
        ("127.0.0.1:5000/thing:v1.2", "v1.2"),
    ];
    for (name, tag) in table {
        let archive = Archive {
            name: name.into(),
            ..full()
        };
        let index = follow(&archive.to_bytes().expect(name)).index;
        let annotations = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
        assert_eq!(index["manifests"][0]["annotations"], annotations);
    }
}

#[test]
fn the_configuration_says_only_what_was_given() {
    let config = |archive: &Archive| follow(&archive.to_bytes().expect("a valid image")).config;
    assert_eq!(config(&image(Vec::new()))["config"], json!({}));
    let full = config(&full());
    assert_eq!((&full["architecture"], &full["os"]), (&json!("amd64"), &json!("linux")));
    let process =
        json!({ "Entrypoint": ["/bin/thing"], "Cmd": ["--serve"], "Env": ["PATH=/bin"], "WorkingDir": "/www" });
    assert_eq!(full["config"], process);
}

#[test]
fn the_same_content_gives_the_same_bytes_in_any_order() {
    let archive = full();
    let mut reversed = archive.clone();
    reversed.files.reverse();
    assert_eq!(archive.to_bytes().expect("valid"), reversed.to_bytes().expect("valid"));
}

#[test]
fn any_change_gives_another_id() {
    type Change = fn(&mut Archive);
    let changes: [(&str, Change); 6] = [
        ("a byte", |archive| {
            archive.files[0].content = Content::File(b"Program".into());
        }),
        ("a mode", |archive| archive.files[0].mode = 0o700),
        ("a path", |archive| archive.files[0].path = "bin/other".into()),
        ("a target", |archive| {
            archive.files[1].content = Content::Symlink("other".into());
        }),
        ("an argument", |archive| archive.cmd.push("more".into())),
        ("the architecture", |archive| archive.architecture = "arm64".into()),
    ];
    let before = full().digests().expect("valid");
    for (what, change) in changes {
        let mut archive = full();
        change(&mut archive);
        assert_ne!(archive.digests().expect("valid").image_id, before.image_id, "{what}");
    }
    let renamed = Archive {
        name: "bosun.dev/other:1".into(),
        ..full()
    };
    assert_eq!(renamed.digests().expect("valid"), before, "a name is not content");
}

#[test]
fn names_and_paths_that_cannot_be_are_refused_in_words() {
    let named = |name: &str| Archive {
        name: name.into(),
        ..full()
    };
    let file = |path: &str| Entry::file(path, 0o644, b"".as_slice());
    let table = [
        (named("demo"), "lacks a registry"),
        (named("library/demo:1"), "lacks a registry"),
        (named("bosun.dev/demo"), "lacks a tag"),
        (named("bosun.dev/demo:"), "lacks a tag"),
        (image(vec![file("/etc/passwd")]), "must be relative"),
        (image(vec![file("../escape")]), "must be relative"),
        (image(vec![file("a//b")]), "must be relative"),
        (image(vec![file("a/./b")]), "must be relative"),
        (image(vec![file("")]), "must be relative"),
        (image(vec![file("a"), Entry::directory("a", 0o755)]), "is twice"),
        (image(vec![file("a"), file("a/b")]), "below a file or a link"),
        (
            image(vec![Entry::symlink("a", "/"), file("a/b")]),
            "below a file or a link",
        ),
    ];
    for (archive, words) in table {
        let error = archive.to_bytes().expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_writer_that_fails_is_reported_with_the_image() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = full().write(Full).expect_err("nothing can be written");
    assert_eq!(error.to_string(), "writing the archive of the image bosun.dev/thing:1");
}

#[test]
fn a_busybox_that_is_missing_is_named() {
    let error = busybox("bosun.dev/demo:1", std::path::Path::new("/nowhere/busybox")).expect_err("none there");
    assert_eq!(error.to_string(), "reading /nowhere/busybox");
}
