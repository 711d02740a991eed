use super::*;
use crate::{plugins::fit::Strategy, profile::SpreadDefaults};

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn parse(text: &str) -> Result<(Config, Vec<String>), ConfigError> {
    Config::parse(&format!("{HEAD}{text}"), "me")
}

#[test]
fn an_empty_file_is_upstreams_default_with_an_election() {
    let (config, warnings) = parse("").unwrap();
    assert_eq!(config.profiles, [Profile::default()]);
    assert_eq!(
        config
            .election
            .as_ref()
            .map(|one| (&*one.namespace, &*one.name, &*one.identity)),
        Some(("kube-system", "kube-scheduler", "me"))
    );
    assert!(warnings.is_empty());
}

#[test]
fn profiles_choose_and_weigh_plugins() {
    let (config, warnings) = parse(
        r"
percentageOfNodesToScore: 30
podInitialBackoffSeconds: 2
leaderElection: { leaderElect: false }
profiles:
- schedulerName: packed
  percentageOfNodesToScore: 70
  plugins:
    multiPoint: { disabled: [{ name: ImageLocality }] }
    filter: { disabled: [{ name: TaintToleration }] }
    postFilter: { disabled: [{ name: '*' }] }
    score: { disabled: [{ name: '*' }], enabled: [{ name: NodeResourcesFit, weight: 5 }, { name: TaintToleration }] }
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: { type: MostAllocated, resources: [{ name: cpu, weight: 3 }, { name: example.com/gpu }] }
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{ topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule }]
- {}
",
    )
    .unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let [packed, usual] = config.profiles.as_slice() else {
        panic!("two profiles")
    };
    assert_eq!(
        (&*packed.name, packed.percentage, &*usual.name, usual.percentage),
        ("packed", 70, "default-scheduler", 30)
    );
    assert!(
        !packed.filters_by(Plugin::TaintToleration) && packed.filters_by(Plugin::NodeResourcesFit) && !packed.preempts
    );
    let weights = [
        Plugin::NodeResourcesFit,
        Plugin::TaintToleration,
        Plugin::ImageLocality,
        Plugin::InterPodAffinity,
    ];
    assert_eq!(weights.map(|plugin| packed.weight_of(plugin)), [5, 3, 0, 0]);
    assert_eq!(packed.fit.strategy, Strategy::MostAllocated);
    assert_eq!(packed.fit.resources, [("cpu".into(), 3), ("example.com/gpu".into(), 1)]);
    assert!(matches!(&packed.spread, SpreadDefaults::List(list) if list.len() == 1 && list[0].required));
    assert_eq!(config.backoff.first, Duration::from_secs(2));
    assert!(config.election.is_none() && usual.preempts);
}

#[test]
fn what_is_wrong_is_named_with_its_path() {
    for (text, expected) in [
        (
            "percentageOfNodesToScore: 101",
            "percentageOfNodesToScore: must be between 0 and 100",
        ),
        ("percentOfNodes: 1", "percentOfNodes: no such field"),
        (
            "profiles: [{ plugins: { filter: { enable: [] } } }]",
            "profiles[0].plugins.filter.enable: no such field",
        ),
        (
            "profiles: [{ plugins: { score: { enabled: [{ name: Coscheduling }] } } }]",
            "profiles[0].plugins.score.enabled[0].name: there is no plugin Coscheduling",
        ),
        (
            "profiles: [{}, {}]",
            "profiles[1].schedulerName: default-scheduler is the name of another profile",
        ),
        (
            "profiles: [{ pluginConfig: [{ name: NodeResourcesFit, args: { scoring: {} } }] }]",
            "profiles[0].pluginConfig[0].args.scoring: no such field",
        ),
        (
            "profiles: [{ pluginConfig: [{ name: NodeResourcesFit, args: { scoringStrategy: { type: Tetris } } }] }]",
            "profiles[0].pluginConfig[0].args.scoringStrategy.type: there is no strategy Tetris",
        ),
        (
            "profiles: [{ pluginConfig: [{ name: PodTopologySpread, args: { defaultConstraints: [{ topologyKey: z, maxSkew: 1, whenUnsatisfiable: DoNotSchedule }] } }] }]",
            "profiles[0].pluginConfig[0].args.defaultConstraints: must be empty unless defaultingType is List",
        ),
        (
            "podMaxBackoffSeconds: 0",
            "podMaxBackoffSeconds: must be greater than 0",
        ),
        (
            "leaderElection: { leaseDuration: soon }",
            "leaderElection.leaseDuration: \"soon\" is no duration, such as 15s",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    let other = Config::parse("apiVersion: v1\nkind: KubeSchedulerConfiguration", "me").unwrap_err();
    assert_eq!(other.to_string(), "apiVersion: must be kubescheduler.config.k8s.io/v1");
    let wrong = parse("percentageOfNodesToScore: many").unwrap_err().to_string();
    assert!(wrong.starts_with("percentageOfNodesToScore: "), "{wrong}");
}

#[test]
fn what_is_not_implemented_is_named() {
    let (_, warnings) = parse("parallelism: 8\nextenders: [{ urlPrefix: 'http://x' }]\nprofiles: [{ plugins: { permit: { enabled: [{ name: X }] }, \
        multiPoint: { enabled: [{ name: DynamicResources }], disabled: [{ name: Other }] } } }]").unwrap();
    let expected = [
        "parallelism is",
        "extenders is",
        "disabled[0]: Other is",
        "DynamicResources is",
        "permit is",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, part) in warnings.iter().zip(expected) {
        assert!(
            warning.contains(part) && warning.contains("not implemented"),
            "{warning}"
        );
    }
}

#[test]
fn durations_are_written_as_go_writes_them() {
    for (text, expected) in [
        ("15s", Some(15_000)),
        ("1m30s", Some(90_000)),
        ("500ms", Some(500)),
        ("1h", Some(3_600_000)),
        ("", None),
        ("15", None),
        ("s", None),
        ("1d", None),
    ] {
        assert_eq!(
            wire::duration(text).map(|duration| duration.as_millis()),
            expected,
            "{text}"
        );
    }
}
