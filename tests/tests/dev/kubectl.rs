//! `kubectl` as a new user types it, on a cluster of one.

use std::process::Stdio;

use anyhow::{Context, ensure};
use bosun_testkit::{Cluster, DEMO_IMAGE, PATIENCE, eventually};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, time::timeout};

/// What a container runs that has nothing to do, and ends when it is told to.
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

/// A pod of one container that runs this in a shell.
fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": DEMO_IMAGE, "command": ["sh", "-c", script]}],
        },
    })
}

/// `kubectl create --filename` with these objects, all in one file.
async fn create(cluster: &Cluster, items: &[Value]) -> anyhow::Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let file = cluster.file("objects.json", &list.to_string())?;
    let file = file.to_string_lossy();
    cluster.kubectl(["create", "--filename", &file]).await?;
    Ok(())
}

/// Waits until what `kubectl` prints is this.
async fn until(cluster: &Cluster, args: &[&str], wanted: &str) {
    eventually(PATIENCE, &format!("kubectl {args:?} prints {wanted:?}"), async || {
        let printed = cluster.kubectl(args.iter().copied()).await?;
        ensure!(printed.trim() == wanted, "{printed}");
        Ok(())
    })
    .await;
}

/// Waits until a resource's condition holds.
async fn wait(cluster: &Cluster, condition: &str, resource: &str) -> anyhow::Result<()> {
    let condition = format!("--for=condition={condition}");
    cluster.kubectl(["wait", "--timeout=50s", &condition, resource]).await?;
    Ok(())
}

async fn rolled_out(cluster: &Cluster, resource: &str) -> anyhow::Result<()> {
    let said = cluster
        .kubectl(["rollout", "status", "--timeout=50s", resource])
        .await?;
    ensure!(
        said.contains("successfully rolled out") || said.contains("complete"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_created_scaled_updated_rolled_back_and_deleted() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let image = format!("--image={DEMO_IMAGE}");
    let args = ["create", "deployment", "web", "--replicas=2", &image];
    cluster
        .kubectl(args.into_iter().chain(["--", "sh", "-c", IDLE]))
        .await?;
    rolled_out(&cluster, "deployment/web").await?;
    cluster.kubectl(["scale", "deployment/web", "--replicas=3"]).await?;
    rolled_out(&cluster, "deployment/web").await?;
    let ready = ["get", "deployment/web", "--output=jsonpath={.status.readyReplicas}"];
    until(&cluster, &ready, "3").await;

    let value = "--output=jsonpath={.spec.template.spec.containers[0].env[0].value}";
    cluster.kubectl(["set", "env", "deployment/web", "COLOR=green"]).await?;
    rolled_out(&cluster, "deployment/web").await?;
    // Until the old pods are gone, it may choose one of them.
    let color = ["exec", "deployment/web", "--", "sh", "-c", "echo $COLOR"];
    until(&cluster, &color, "green").await;
    let history = cluster.kubectl(["rollout", "history", "deployment/web"]).await?;
    let revisions: Vec<_> = history
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse::<u32>().ok())
        .collect();
    ensure!(revisions == [1, 2], "{history}");
    cluster.kubectl(["rollout", "undo", "deployment/web"]).await?;
    rolled_out(&cluster, "deployment/web").await?;
    until(&cluster, &["get", "deployment/web", value], "").await;

    // What is changed while it is paused comes with the resume.
    cluster.kubectl(["rollout", "pause", "deployment/web"]).await?;
    cluster.kubectl(["set", "env", "deployment/web", "COLOR=blue"]).await?;
    let pair = "--output=jsonpath={.metadata.generation} {.status.observedGeneration} {.status.updatedReplicas}";
    eventually(PATIENCE, "the change is seen and none is updated", async || {
        let said = cluster.kubectl(["get", "deployment/web", pair]).await?;
        let fields: Vec<_> = said.split_whitespace().collect();
        ensure!(fields.len() == 2 && fields[0] == fields[1], "{said}");
        Ok(())
    })
    .await;
    cluster.kubectl(["rollout", "resume", "deployment/web"]).await?;
    rolled_out(&cluster, "deployment/web").await?;
    cluster
        .kubectl(["delete", "deployment/web", "--cascade=foreground"])
        .await?;
    until(&cluster, &["get", "pods", "--output=name"], "").await;
    cluster.finish().await
}

#[tokio::test]
async fn logs_exec_and_cp_reach_into_a_pod() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let mut two = pod("two", &format!("echo first; echo second; {IDLE}"));
    let other = json!({"name": "other", "image": DEMO_IMAGE, "command": ["sh", "-c", format!("echo third; {IDLE}")]});
    two["spec"]["containers"].as_array_mut().context("a list")?.push(other);
    create(&cluster, &[two, pod("again", "echo life; exit 3")]).await?;
    wait(&cluster, "Ready", "pod/two").await?;
    let main = ["logs", "two", "--container=main"];
    until(&cluster, &main, "first\nsecond").await;
    until(&cluster, &["logs", "two", "--all-containers"], "first\nsecond\nthird").await;
    for (option, wanted) in [("--tail=1", "second"), ("--since=1h", "first\nsecond")] {
        let said = cluster.kubectl(main.into_iter().chain([option])).await?;
        ensure!(said.trim() == wanted, "{option}: {said}");
    }
    let stamped = cluster.kubectl(main.into_iter().chain(["--timestamps"])).await?;
    for line in stamped.lines() {
        let (stamp, _) = line.split_once(' ').context("a time and a text")?;
        ensure!(stamp.contains('T') && stamp.ends_with('Z'), "{line}");
    }
    until(&cluster, &["logs", "again", "--previous"], "life").await;

    // Its input, its output, its end.
    let mut command = cluster.kubectl_command()?;
    command.args(["exec", "-i", "two", "--container=main", "--", "sh", "-c", "cat; exit 7"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().context("a pipe")?;
    input.write_all(b"typed").await?;
    drop(input);
    let output = timeout(PATIENCE, child.wait_with_output()).await??;
    ensure!(output.status.code() == Some(7), "{output:?}");
    ensure!(output.stdout == b"typed", "{output:?}");

    let from = cluster.file("sent", "over and back\n")?;
    let back = from.with_file_name("back");
    let (from, to) = (from.to_string_lossy(), back.to_string_lossy());
    cluster
        .kubectl(["cp", &from, "two:/tmp/sent", "--container=main"])
        .await?;
    cluster
        .kubectl(["cp", "two:/tmp/sent", &to, "--container=main"])
        .await?;
    ensure!(std::fs::read_to_string(&back)? == "over and back\n");
    cluster.finish().await
}

#[tokio::test]
async fn a_pod_that_cannot_run_says_why() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let mut big = pod("big", IDLE);
    big["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1000"}});
    let mut image = pod("image", IDLE);
    image["spec"]["containers"][0]["image"] = json!("localhost:1/none:1");
    let mut secret = pod("secret", IDLE);
    secret["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "missing", "key": "a"}}}]);
    create(&cluster, &[big, image, secret]).await?;
    for (name, reason, words) in [
        (
            "big",
            "FailedScheduling",
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        ("image", "Failed", "Error: ErrImagePull"),
        ("image", "Failed", "Error: ImagePullBackOff"),
        ("secret", "Failed", "Error: secret \"missing\" not found"),
    ] {
        eventually(PATIENCE, &format!("{name}: {words}"), async || {
            let of = format!("involvedObject.name={name},reason={reason}");
            let said = cluster
                .kubectl([
                    "get",
                    "events",
                    "--field-selector",
                    &of,
                    "--output=jsonpath={.items[*].message}",
                ])
                .await?;
            ensure!(said.contains(words), "{said}");
            Ok(())
        })
        .await;
    }
    let reason = "--output=jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    until(&cluster, &["get", "pod/secret", reason], "CreateContainerConfigError").await;
    // With what it lacked it runs.
    cluster
        .kubectl(["create", "secret", "generic", "missing", "--from-literal=a=b"])
        .await?;
    wait(&cluster, "Ready", "pod/secret").await?;
    cluster.finish().await
}

#[tokio::test]
async fn jobs_end_stateful_pods_come_in_order_and_a_daemon_runs_on_the_node() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let set = |kind: &str, more: Value| {
        let mut spec = json!({
            "selector": {"matchLabels": {"app": kind}},
            "template": {"metadata": {"labels": {"app": kind}}, "spec": pod("", IDLE)["spec"]},
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "set"}, "spec": spec})
    };
    let stateful = set("StatefulSet", json!({"replicas": 2, "serviceName": "set"}));
    create(&cluster, &[stateful, set("DaemonSet", json!({}))]).await?;
    let image = format!("--image={DEMO_IMAGE}");
    cluster
        .kubectl(["create", "job", "once", &image, "--", "echo", "done"])
        .await?;
    let schedule = ["create", "cronjob", "rare", "--schedule=0 0 1 1 *", &image];
    cluster
        .kubectl(schedule.into_iter().chain(["--", "echo", "rare"]))
        .await?;
    cluster.kubectl(["create", "job", "now", "--from=cronjob/rare"]).await?;
    for (job, words) in [("job/once", "done"), ("job/now", "rare")] {
        wait(&cluster, "Complete", job).await?;
        let said = cluster.kubectl(["logs", job]).await?;
        ensure!(said.trim() == words, "{job}: {said}");
    }
    rolled_out(&cluster, "statefulset/set").await?;
    rolled_out(&cluster, "daemonset/set").await?;
    let times = cluster
        .kubectl([
            "get",
            "pods",
            "set-0",
            "set-1",
            "--output=jsonpath={range .items[*]}{.metadata.creationTimestamp} \
             {.status.conditions[?(@.type==\"Ready\")].lastTransitionTime} {end}",
        ])
        .await?;
    let times: Vec<_> = times.split_whitespace().collect();
    // RFC 3339 in UTC and whole seconds, so that texts compare as times do.
    ensure!(
        times.len() == 4 && times[1] <= times[2],
        "the second came before the first was ready: {times:?}"
    );
    cluster.finish().await
}

#[tokio::test]
async fn a_running_pod_is_debugged_by_a_container_of_its_own() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    create(&cluster, &[pod("sick", IDLE)]).await?;
    wait(&cluster, "Ready", "pod/sick").await?;
    let image = format!("--image={DEMO_IMAGE}");
    let args = ["debug", "pod/sick", "--container=doctor", &image, "--", "sh", "-c"];
    cluster.kubectl(args.into_iter().chain(["echo looked"])).await?;
    until(&cluster, &["logs", "sick", "--container=doctor"], "looked").await;
    cluster.finish().await
}
