use super::*;
use crate::config::Settings;
use crate::config::settings::Source;

fn config(root: &Path, has_file: bool, more: &[(&str, &str)]) -> NodeConfig {
    let mut settings = Settings::default();
    let dirs = format!("{0}/a,{0}/b", root.display());
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ("log.dirs", &dirs),
    ];
    for (name, value) in given.iter().chain(more) {
        settings.set(name, value, Source::Override);
    }
    NodeConfig::new(settings, has_file).unwrap()
}

fn format(voters: InitialVoters) -> Format {
    Format {
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".into(),
        ignore_formatted: false,
        features: BTreeMap::new(),
        voters,
    }
}

fn run(format: &Format, config: &NodeConfig) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    format
        .run(config, |line| lines.push(line))
        .map(|()| lines)
        .map_err(|error| error.to_string())
}

#[test]
fn directories_are_formatted_as_kafka_formats_them() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), true, &[]);
    let lines = run(&format(InitialVoters::Standalone), &config).unwrap();
    let [a, b] = ["a", "b"].map(|name| root.path().join(name));
    assert_eq!(
        lines,
        [
            format!(
                "Formatting dynamic metadata voter directory {} with metadata.version 4.3-IV0.",
                a.display()
            ),
            format!(
                "Formatting data directory {} with metadata.version 4.3-IV0.",
                b.display()
            ),
        ]
    );
    for path in [&a, &b] {
        let properties = MetaProperties::read(path).unwrap().unwrap().unwrap();
        assert_eq!(
            (properties.cluster_id.as_str(), properties.node_id),
            ("MkU3OEVBNTcwNTJENDM2Qg", BrokerId(1))
        );
        assert!(path.join("bootstrap.checkpoint").exists());
    }
    let voters = format!("{METADATA_FOLDER}/00000000000000000000-0000000000.checkpoint");
    assert!(a.join(&voters).exists() && !b.join(METADATA_FOLDER).exists());
    assert_eq!(prepare(&config).unwrap(), "MkU3OEVBNTcwNTJENDM2Qg");
}

#[test]
fn formatted_directories_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), true, &[]);
    let mut format = format(InitialVoters::Standalone);
    run(&format, &config).unwrap();
    let error = run(&format, &config).unwrap_err();
    assert!(
        error.contains("/a is already formatted. Use --ignore-formatted"),
        "{error}"
    );
    format.ignore_formatted = true;
    assert_eq!(
        run(&format, &config).unwrap(),
        ["All of the log directories are already formatted."]
    );
    std::fs::remove_dir_all(root.path().join("b")).unwrap();
    assert_eq!(run(&format, &config).unwrap().len(), 1);
    format.cluster_id = "other".into();
    let error = run(&format, &config).unwrap_err();
    assert!(
        error.contains("cluster.id=MkU3OEVBNTcwNTJENDM2Qg") && error.contains("other"),
        "{error}"
    );
}

#[test]
fn voters_must_fit_the_configuration() {
    let root = tempfile::tempdir().unwrap();
    let dynamic = config(root.path(), true, &[]);
    let fixed = config(root.path(), true, &[("controller.quorum.voters", "1@localhost:9093")]);
    let broker = [
        ("process.roles", "broker"),
        ("node.id", "2"),
        ("listeners", "PLAINTEXT://localhost:9092"),
    ];
    let broker = config(root.path(), true, &broker);
    let listed = |text: &str| InitialVoters::Listed(text.to_owned());
    for (config, voters, reason) in [
        (
            &dynamic,
            InitialVoters::Unsaid,
            "one of --standalone, --initial-controllers",
        ),
        (&fixed, InitialVoters::Standalone, "remove controller.quorum.voters"),
        (
            &fixed,
            listed("1@h:1:JEXY6aqzQY-32P5TStzaFg"),
            "remove controller.quorum.voters",
        ),
        (&broker, InitialVoters::Standalone, "process.roles contains none"),
        (&dynamic, listed("1@h:1"), "1@h:1 must have the form"),
        (&dynamic, listed("1@h:1:AAAAAAAAAAAAAAAAAAAAAA"), "must have the form"),
        (
            &dynamic,
            listed("1@h:1:JEXY6aqzQY-32P5TStzaFg,1@h:2:JEXY6aqzQY-32P5TStzaFh"),
            "comes twice",
        ),
        (&dynamic, listed(","), "names no controller"),
    ] {
        let error = run(&format(voters.clone()), config).unwrap_err();
        assert!(error.contains(reason), "{voters:?}: {error}");
    }
    assert!(run(&format(InitialVoters::Unsaid), &broker).is_ok());
}

#[test]
fn a_listed_voter_gets_the_directory_id_that_it_is_listed_with() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), true, &[]);
    let voters = "1@[::1]:9093:JEXY6aqzQY-32P5TStzaFg, 2@h:9093:MvDxzVmcRsaTz33bUuRU6A";
    run(&format(InitialVoters::Listed(voters.into())), &config).unwrap();
    let properties = MetaProperties::read(&root.path().join("a")).unwrap().unwrap().unwrap();
    assert_eq!(properties.directory_id.to_string(), "JEXY6aqzQY-32P5TStzaFg");
}

#[test]
fn features_are_read_and_checked() {
    let read = |release, given: &[&str]| {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        features(release, &given).map_err(|error| error.to_string())
    };
    let level = |name: &str, level| BTreeMap::from([(name.to_owned(), level)]);
    assert_eq!(read(Some("4.3-IV0"), &[]), Ok(level("metadata.version", 30)));
    assert_eq!(read(None, &["kraft.version=1"]), Ok(level("kraft.version", 1)));
    assert!(read(Some("9.9"), &[]).unwrap_err().contains("the newest is 4.3-IV0"));
    assert!(read(None, &["kraft.version"]).unwrap_err().contains("FEATURE=LEVEL"));
    assert!(
        read(Some("4.3-IV0"), &["metadata.version=30"])
            .unwrap_err()
            .contains("only one of")
    );

    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), true, &[]);
    for (name, level, reason) in [
        ("no.such", 1, "Unsupported feature: no.such"),
        ("metadata.version", 29, "only 30 (4.3-IV0)"),
        (
            "kraft.version",
            0,
            "kraft.version must be 1 when controller.quorum.voters is not set",
        ),
        ("eligible.leader.replicas.version", 2, "allowed is 0-1"),
    ] {
        let mut format = format(InitialVoters::Standalone);
        format.features.insert(name.into(), level);
        let error = run(&format, &config).unwrap_err();
        assert!(error.contains(reason), "{name}={level}: {error}");
    }
    let mut format = format(InitialVoters::Standalone);
    format.features.insert("eligible.leader.replicas.version".into(), 1);
    format.features.insert("group.version".into(), 0);
    run(&format, &config).unwrap();
    let begins_with = bootstrap_records(&config).unwrap();
    let names = begins_with.iter().map(|record| match record {
        MetadataRecord::FeatureLevel(level) => level.name.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["metadata.version", "eligible.leader.replicas.version"]
    );
}

#[test]
fn what_kafka_formatted_begins_without_what_ottla_lacks() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), true, &[]);
    let directory = root.path().join("a");
    std::fs::create_dir(&directory).unwrap();
    let write = |levels: &[(&str, i16)]| {
        let record = |(name, level): &(&str, i16)| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name: (*name).to_owned(),
                feature_level: *level,
                ..FeatureLevelRecord::default()
            })
        };
        let records: Vec<MetadataRecord> = levels.iter().map(record).collect();
        ottla_raft::write_bootstrap(&directory, &records, SystemClock::default().now()).unwrap();
    };
    assert_eq!(bootstrap_records(&config).unwrap(), Activate::bootstrap_records());
    write(&[
        ("metadata.version", METADATA_VERSION_LATEST),
        ("group.version", 1),
        ("no.such.version", 1),
    ]);
    assert_eq!(bootstrap_records(&config).unwrap(), Activate::bootstrap_records());
    write(&[("metadata.version", METADATA_VERSION_LATEST - 1)]);
    let error = bootstrap_records(&config).unwrap_err().to_string();
    assert!(error.contains("was formatted for metadata.version 4.2-IV1"), "{error}");
}

#[test]
fn a_node_without_a_file_formats_what_is_empty() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), false, &[]);
    let cluster_id = prepare(&config).unwrap();
    assert_eq!(cluster_id.len(), 22);
    assert_eq!(prepare(&config).unwrap(), cluster_id);
    let chosen = tempfile::tempdir().unwrap();
    let chosen = self::config(chosen.path(), false, &[("ottla.cluster.id", "MkU3OEVBNTcwNTJENDM2Qg")]);
    assert_eq!(prepare(&chosen).unwrap(), "MkU3OEVBNTcwNTJENDM2Qg");
    // A directory that is new joins the others.
    std::fs::remove_dir_all(root.path().join("b")).unwrap();
    assert_eq!(prepare(&config).unwrap(), cluster_id);
}

#[test]
fn a_node_refuses_directories_that_are_not_its_own() {
    let root = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| root.path().join(name));
    let error = |config: &NodeConfig| prepare(config).unwrap_err().to_string();

    let with_file = config(root.path(), true, &[]);
    let unformatted = error(&with_file);
    assert!(unformatted.contains(&format!(
        "No `meta.properties` found in {}: run `ottla format",
        a.display()
    )));

    let without_file = config(root.path(), false, &[]);
    std::fs::create_dir(&a).unwrap();
    std::fs::write(a.join("letter.txt"), "").unwrap();
    assert!(error(&without_file).contains("holds letter.txt but no meta.properties"));
    std::fs::remove_file(a.join("letter.txt")).unwrap();
    prepare(&without_file).unwrap();

    let other_node = config(root.path(), true, &[("node.id", "2")]);
    assert!(error(&other_node).contains("node.id"));

    std::fs::create_dir(b.join(METADATA_FOLDER)).unwrap();
    assert!(error(&with_file).contains("b/__cluster_metadata-0 must not be there"));
    std::fs::remove_dir(b.join(METADATA_FOLDER)).unwrap();

    std::fs::copy(a.join("meta.properties"), b.join("meta.properties")).unwrap();
    assert!(error(&with_file).contains("one is a copy of the other"));
}

#[test]
fn a_directory_that_is_a_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), "").unwrap();
    let config = config(root.path(), false, &[]);
    let error = prepare(&config).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot use log directory {}/a: ", root.path().display())),
        "{error}"
    );
}
