use super::*;

type Entry<'a> = (&'a str, &'a [u8]);

/// A tar file of these entries; a content that begins with `->` is a symbolic link.
fn archive(entries: &[Entry<'_>]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut tar = tar::Builder::new(file.as_file());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, path, std::str::from_utf8(target).expect("utf-8"))
                .expect("a link");
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, *content).expect("an entry");
        }
    }
    tar.finish().expect("the end");
    drop(tar);
    file
}

fn digest(content: &[u8]) -> String {
    hex_digest(&Sha256::digest(content))
}

fn path(content: &[u8]) -> String {
    blob_path(&digest(content)).expect("a digest")
}

fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

const LAYER: &[u8] = b"a layer";
const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux"}"#;

fn manifest() -> Vec<u8> {
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar", LAYER);
    let config = descriptor("application/vnd.oci.image.config.v1+json", CONFIG);
    serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]})
        .to_string()
        .into_bytes()
}

fn index(manifests: &[serde_json::Value]) -> Vec<u8> {
    serde_json::json!({"schemaVersion": 2, "manifests": manifests})
        .to_string()
        .into_bytes()
}

fn named(mut descriptor: serde_json::Value, key: &str, name: &str) -> serde_json::Value {
    descriptor["annotations"] = serde_json::json!({ key: name });
    descriptor
}

#[test]
fn an_oci_layout_gives_blobs_children_first_and_a_full_name() {
    let manifest = manifest();
    let index = index(&[named(
        descriptor(OCI_MANIFEST, &manifest),
        "io.containerd.image.name",
        "bosun.local/demo:1",
    )]);
    let file = archive(&[
        ("./index.json", &index),
        (&path(&manifest), &manifest),
        (&path(CONFIG), CONFIG),
        (&path(LAYER), LAYER),
    ]);
    let layout = read(file.path()).expect("a layout");
    let order: Vec<_> = layout.blobs.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(order, [digest(LAYER), digest(CONFIG), digest(&manifest)]);
    let labels: Vec<_> = layout.blobs[2]
        .labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    assert_eq!(
        labels,
        [
            ("containerd.io/gc.ref.content.config", digest(CONFIG)),
            ("containerd.io/gc.ref.content.l.0", digest(LAYER))
        ]
    );
    assert_eq!(layout.images.len(), 1);
    assert_eq!(layout.images[0].name, "bosun.local/demo:1");
    assert_eq!(layout.images[0].configs, BTreeSet::from([digest(CONFIG)]));
}

#[test]
fn a_name_may_come_from_the_ref_annotation_and_a_bare_tag_is_none() {
    let manifest = manifest();
    let target = descriptor(OCI_MANIFEST, &manifest);
    for (reference, name) in [("demo:1", Some("docker.io/library/demo:1")), ("latest", None)] {
        let index = index(&[named(target.clone(), "org.opencontainers.image.ref.name", reference)]);
        let file = archive(&[
            ("index.json", &index),
            (&path(&manifest), &manifest),
            (&path(CONFIG), CONFIG),
            (&path(LAYER), LAYER),
        ]);
        match (read(file.path()), name) {
            (Ok(layout), Some(name)) => assert_eq!(layout.images[0].name, name),
            (Err(LayoutError::Nameless), None) => {}
            (other, _) => panic!("{reference}: {other:?}"),
        }
    }
}

#[test]
fn of_an_image_for_many_platforms_the_present_ones_are_taken() {
    let manifest = manifest();
    let absent = descriptor(OCI_MANIFEST, b"of another platform");
    let inner = index(&[absent.clone(), descriptor(OCI_MANIFEST, &manifest)]);
    let outer = |inner: &[u8]| {
        index(&[named(
            descriptor(OCI_INDEX, inner),
            "io.containerd.image.name",
            "a.b/c:1",
        )])
    };
    let file = archive(&[
        ("index.json", &outer(&inner)),
        (&path(&inner), &inner),
        (&path(&manifest), &manifest),
        (&path(CONFIG), CONFIG),
        (&path(LAYER), LAYER),
    ]);
    let layout = read(file.path()).expect("a layout");
    let top = layout.blobs.last().expect("blobs");
    assert_eq!(top.digest, digest(&inner));
    assert_eq!(
        top.labels,
        BTreeMap::from([("containerd.io/gc.ref.content.m.1".to_owned(), digest(&manifest))])
    );

    let empty = index(&[absent]);
    let file = archive(&[("index.json", &outer(&empty)), (&path(&empty), &empty)]);
    assert!(matches!(read(file.path()), Err(LayoutError::Missing(_))));
}

#[test]
fn the_output_of_docker_save_gets_the_manifest_it_lacks() {
    let saved = br#"[{"Config":"c.json","RepoTags":["demo:1","demo:2"],"Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let file = archive(&[
        ("manifest.json", saved),
        ("c.json", CONFIG),
        ("one/layer.tar", LAYER),
        ("two/layer.tar", b"->../one/layer.tar"),
    ]);
    let layout = read(file.path()).expect("a layout");
    let names: Vec<_> = layout.images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["docker.io/library/demo:1", "docker.io/library/demo:2"]);
    let order: Vec<_> = layout.blobs.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(
        order,
        [digest(CONFIG), digest(LAYER), layout.images[0].target.digest.clone()]
    );
    let Source::Bytes(bytes) = &layout.blobs[2].source else {
        panic!("{:?}", layout.blobs[2])
    };
    let manifest: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
    assert_eq!(manifest["mediaType"], DOCKER_MANIFEST);
    assert_eq!(manifest["layers"][1]["digest"], digest(LAYER));
    assert_eq!(manifest["layers"][1]["mediaType"], DOCKER_LAYER);
}

#[test]
fn a_damaged_or_foreign_archive_is_refused_with_the_reason() {
    let manifest = manifest();
    let index = index(&[named(
        descriptor(OCI_MANIFEST, &manifest),
        "io.containerd.image.name",
        "a.b/c:1",
    )]);
    let table: [(&[Entry<'_>], &str); 5] = [
        (&[("readme", b"hello")], "neither an OCI layout"),
        (&[("index.json", b"{")], "index.json in the archive: not as expected"),
        (&[("index.json", &index)], "the archive lacks blobs/sha256/"),
        (
            &[("index.json", &index), (&path(&manifest), b"{}")],
            "the archive is damaged",
        ),
        (
            &[
                ("index.json", &index),
                (&path(&manifest), &manifest),
                (&path(LAYER), b"short"),
            ],
            "5 bytes instead of 7",
        ),
    ];
    for (entries, reason) in table {
        let error = read(archive(entries).path()).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error:?} lacks {reason:?}");
    }
}

#[test]
fn a_compressed_archive_is_named_as_such() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), [0x1f, 0x8b, 8, 0, 0]).expect("written");
    assert!(matches!(read(file.path()), Err(LayoutError::Compressed("gzip"))));
}
