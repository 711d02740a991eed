use std::{fs, io::Write};

use bosun_cri::{FakeRuntime, v1};
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

/// A container that runs, and its log.
struct Fixture {
    runtime: FakeRuntime,
    id: ContainerId,
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let runtime = FakeRuntime::new();
        runtime.add_image("shell");
        let sandbox_config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".to_owned(),
                uid: "u1".to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            ..v1::PodSandboxConfig::default()
        };
        let sandbox = runtime.run_sandbox(&sandbox_config, "").await.unwrap();
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: "app".to_owned(),
                attempt: 0,
            }),
            image: Some(v1::ImageSpec {
                image: "shell".to_owned(),
                ..v1::ImageSpec::default()
            }),
            log_path: "app/0.log".to_owned(),
            ..v1::ContainerConfig::default()
        };
        let id = runtime
            .create_container(&sandbox, &config, &sandbox_config)
            .await
            .unwrap();
        runtime.start_container(&id).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("app")).unwrap();
        let fixture = Self { runtime, id, dir };
        fixture.write(&["first", "second"]);
        fixture
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app/0.log")
    }

    fn write(&self, lines: &[&str]) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path())
            .unwrap();
        for line in lines {
            writeln!(file, "2026-11-20T12:00:00.5Z stdout F {line}").unwrap();
        }
    }

    async fn log(&self, query: &str) -> impl Stream<Item = Result<Bytes, body::Error>> + Unpin {
        let options = Options::parse(query, Timestamp::now()).unwrap();
        let runtime = Arc::new(self.runtime.clone());
        let log = Log::open(runtime, self.id.clone(), self.dir.path(), options)
            .await
            .unwrap();
        log.into_stream().boxed()
    }

    async fn all(&self, query: &str) -> String {
        let chunks: Vec<Bytes> = timeout(DEADLINE, self.log(query).await.try_collect())
            .await
            .unwrap()
            .unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    }
}

use jiff::Timestamp;

async fn next(log: &mut (impl Stream<Item = Result<Bytes, body::Error>> + Unpin)) -> Option<String> {
    let chunk = timeout(DEADLINE, log.next()).await.expect("in time");
    chunk.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_log_is_read_as_it_is_wanted() {
    let fixture = Fixture::new().await;
    for (query, expected) in [
        ("", "first\nsecond\n"),
        ("tailLines=1", "second\n"),
        ("tailLines=0", ""),
        ("limitBytes=8", "first\nse"),
        ("timestamps=true&tailLines=1", "2026-11-20T12:00:00.5Z second\n"),
        ("stream=Stderr", ""),
        ("sinceTime=2026-11-20T12:00:01Z", ""),
    ] {
        assert_eq!(fixture.all(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn what_is_not_a_line_of_the_runtimes_is_passed_over() {
    let fixture = Fixture::new().await;
    fs::write(fixture.path(), format!("garbage\n{}\n", "y".repeat(3 * MAX_LINE))).unwrap();
    fixture.write(&["good"]);
    assert_eq!(fixture.all("").await, "good\n");
}

#[tokio::test]
async fn following_goes_on_over_a_rotation_and_ends_with_the_container() {
    let fixture = Fixture::new().await;
    let mut log = fixture.log("follow=true").await;
    assert_eq!(next(&mut log).await.unwrap(), "first\nsecond\n");
    fixture.write(&["third"]);
    assert_eq!(next(&mut log).await.unwrap(), "third\n");
    fs::rename(fixture.path(), fixture.dir.path().join("app/0.log.1")).unwrap();
    fixture.write(&["fourth"]);
    assert_eq!(next(&mut log).await.unwrap(), "fourth\n");
    fixture.write(&["last"]);
    fixture.runtime.exit(&fixture.id, 0);
    assert_eq!(next(&mut log).await.unwrap(), "last\n");
    assert_eq!(next(&mut log).await, None);
}

#[tokio::test]
async fn following_what_has_ended_ends_at_once() {
    let fixture = Fixture::new().await;
    fixture.runtime.exit(&fixture.id, 0);
    fixture.runtime.set_status_lag(Duration::ZERO);
    assert_eq!(fixture.all("follow=true").await, "first\nsecond\n");
}

#[tokio::test]
async fn a_log_that_is_gone_is_an_error_that_says_where_it_was() {
    let fixture = Fixture::new().await;
    fs::remove_file(fixture.path()).unwrap();
    let options = Options::default();
    let runtime = Arc::new(fixture.runtime.clone());
    let opened = Log::open(runtime, fixture.id.clone(), fixture.dir.path(), options).await;
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("app/0.log"), "{error}");
}
