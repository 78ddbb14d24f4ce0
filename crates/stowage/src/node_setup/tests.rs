//! The file against what is typed before `node`, after it, and set in the environment.

use std::process::Command as Process;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::*;
use crate::cli::{Cli, Command};

const ALL: &str = "apiVersion: config.stowage.dev/v1alpha1
kind: NodeConfiguration
registries: {caFiles: [/ca.pem], plainHttp: ['r.lan:5000'], allowLocal: [127.0.0.1]}
mirrors: {hostsDirs: []}
credentials: {dockerConfig: /config.json, providers: {configFile: /p, binDir: /b}}
limits: {connectionsPerBlob: 1, maxConnections: 2, maxConnectionsPerRegistry: 3, maxConcurrentBlobs: 4,
  maxBytesPerSecond: 5, maxPendingVolumes: 6}
store: {maxBytes: 7, minFreePercent: 8}
tars: {erofs: loop, readAheadKib: 9, allowFilesystemLayers: true}
policy: {allowedRegistries: ['r.example/*'], requireDigest: true}
telemetry: {log: debug, logFormat: json}
";

/// Every setting that the file has too: its flag, its variable, and another value. Some are the default.
const TYPED: [(&str, &str, &str); 20] = [
    ("--max-bytes", "STOWAGE_MAX_BYTES", "70"),
    ("--min-free", "STOWAGE_MIN_FREE", "20"),
    ("--log", "STOWAGE_LOG", "warn"),
    ("--log-format", "STOWAGE_LOG_FORMAT", "human"),
    ("--ca", "STOWAGE_CA", "/typed.pem"),
    ("--plain-http", "STOWAGE_PLAIN_HTTP", "typed"),
    ("--allow-local", "STOWAGE_ALLOW_LOCAL", "typed"),
    ("--hosts-dir", "STOWAGE_HOSTS_DIR", "/typed"),
    ("--docker-config", "STOWAGE_DOCKER_CONFIG", "/typed"),
    ("--connections-per-blob", "STOWAGE_CONNECTIONS_PER_BLOB", "12"),
    ("--max-connections", "STOWAGE_MAX_CONNECTIONS", "24"),
    ("--max-connections-per-registry", "STOWAGE_MAX_CONNECTIONS_PER_REGISTRY", "30"),
    ("--max-concurrent-blobs", "STOWAGE_MAX_CONCURRENT_BLOBS", "16"),
    ("--max-bytes-per-second", "STOWAGE_MAX_BYTES_PER_SECOND", "50"),
    ("--max-pending-volumes", "STOWAGE_MAX_PENDING_VOLUMES", "1000"),
    ("--erofs", "STOWAGE_EROFS", "auto"),
    ("--read-ahead-kib", "STOWAGE_READ_AHEAD_KIB", "128"),
    ("--allowed-registries", "STOWAGE_ALLOWED_REGISTRIES", "typed"),
    // Flags without a value: in the file they are the other way round.
    ("--allow-filesystem-layers", "STOWAGE_ALLOW_FILESYSTEM_LAYERS", "true"),
    ("--require-digest", "STOWAGE_REQUIRE_DIGEST", "true"),
];
/// Those of them that every command knows, and that may stand before its name.
const GLOBAL: usize = 4;
/// In the environment of the test that runs itself.
const CHILD: &str = "STOWAGE_TEST_ENVIRONMENT_IS_SET";

/// What `stowage BEFORE node AFTER` is told, with this file.
fn setup(text: &str, before: &[&str], after: &[&str]) -> Result<NodeSetup, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let node = ["node", "--node-id", "n", "--config", &path];
    let line = ["stowage"].iter().chain(before).chain(&node).chain(after);
    let matches = Cli::command().try_get_matches_from(line).unwrap();
    let cli = Cli::from_arg_matches(&matches).unwrap();
    let Command::Node(args) = cli.command else { panic!() };
    NodeSetup::read(&matches, cli.store, cli.log, *args)
}

/// The file with the flags that have no value turned.
fn turned() -> String {
    ALL.replace("allowFilesystemLayers: true", "allowFilesystemLayers: false")
        .replace("requireDigest: true", "requireDigest: false")
}

fn words(typed: &[(&'static str, &'static str, &'static str)]) -> Vec<&'static str> {
    let both = typed.iter().flat_map(|(flag, _, value)| [*flag, *value]);
    both.filter(|word| *word != "true").collect()
}

/// [`TYPED`] and nothing of the file, but what only the file can say.
fn assert_typed(setup: NodeSetup) {
    let NodeSetup { store, log, args, credentials, .. } = setup;
    assert_eq!((store.max_bytes, store.min_free), (Some(70), 20));
    assert_eq!((log.filter.as_deref(), log.log_format), (Some("warn"), LogFormat::Human));
    assert_eq!(
        (args.registry.ca, args.registry.hosts_dir),
        (vec!["/typed.pem".into()], vec!["/typed".into()])
    );
    assert_eq!(
        (args.registry.plain_http, args.registry.allow_local),
        (vec!["typed".into()], vec!["typed".into()])
    );
    assert_eq!(credentials.docker_config, Some("/typed".into()));
    assert!(credentials.providers.is_some());
    let downloads = &args.downloads;
    assert_eq!((downloads.connections_per_blob, downloads.max_connections), (12, 24));
    assert_eq!((downloads.max_connections_per_registry, downloads.max_concurrent_blobs), (Some(30), 16));
    assert_eq!((downloads.max_bytes_per_second, args.max_pending_volumes), (Some(50), 1000));
    assert!(matches!(args.tars.erofs, Erofs::Auto));
    assert_eq!((args.tars.read_ahead_kib, args.allowed_registries), (128, vec!["typed".to_owned()]));
    assert!(args.tars.allow_filesystem_layers && args.require_digest);
}

#[test]
fn the_file_beats_every_default() {
    let NodeSetup { store, log, args, credentials, .. } = setup(ALL, &[], &[]).unwrap();
    assert_eq!((store.max_bytes, store.min_free), (Some(7), 8));
    assert_eq!((log.filter.as_deref(), log.log_format), (Some("debug"), LogFormat::Json));
    assert_eq!(args.registry.ca, [PathBuf::from("/ca.pem")]);
    assert_eq!(args.registry.plain_http, ["r.lan:5000"]);
    assert_eq!(args.registry.allow_local, ["127.0.0.1"]);
    assert!(args.registry.hosts_roots().is_empty());
    assert_eq!(credentials.docker_config, Some("/config.json".into()));
    assert!(credentials.providers.is_some());
    let downloads = &args.downloads;
    assert_eq!((downloads.connections_per_blob, downloads.max_connections), (1, 2));
    assert_eq!((downloads.max_connections_per_registry, downloads.max_concurrent_blobs), (Some(3), 4));
    assert_eq!((downloads.max_bytes_per_second, args.max_pending_volumes), (Some(5), 6));
    assert!(matches!(args.tars.erofs, Erofs::Loop));
    assert!(args.tars.allow_filesystem_layers && args.require_digest);
    assert_eq!((args.tars.read_ahead_kib, args.allowed_registries), (9, vec!["r.example/*".to_owned()]));
}

#[test]
fn what_is_typed_beats_the_file_wherever_it_stands() {
    let (global, own) = TYPED.split_at(GLOBAL);
    assert_typed(setup(&turned(), &[], &words(&TYPED)).unwrap());
    assert_typed(setup(&turned(), &words(global), &words(own)).unwrap());
}

/// The environment is the process' own, so the test runs itself in another one.
#[test]
fn what_is_set_in_the_environment_beats_the_file() {
    if std::env::var_os(CHILD).is_some() {
        assert_typed(setup(&turned(), &[], &[]).unwrap());
        return;
    }
    let name = "node_setup::tests::what_is_set_in_the_environment_beats_the_file";
    let mut child = Process::new(std::env::current_exe().unwrap());
    child.args(["--exact", name]).env(CHILD, "1");
    let output = child.envs(TYPED.map(|(_, variable, value)| (variable, value))).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_bad_file_is_bad_configuration_in_one_sentence() {
    for (good, bad, word) in
        [("maxBytes", "maxByte", "maxByte"), ("log: debug", "log: 'a=b=c'", "telemetry.log")]
    {
        let Err(Failure::Configuration(error)) = setup(&ALL.replace(good, bad), &[], &[]) else {
            panic!("accepted")
        };
        let error = error.to_string();
        assert!(error.contains(word) && error.contains("node.yaml") && !error.contains('\n'), "{error}");
    }
}
