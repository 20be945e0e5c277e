//! `dump`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;

use anabranch::Engine;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::directory::{Content, Database, flip, root};
use crate::tool::on;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_dump_holds_what_the_database_does() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(60).await;
    database.live(40).await;
    let run = on(&database.path, "dump", &[]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{}", run.stderr);
    let dumped = lines(&run.stdout);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let content: Content = dumped.iter().map(|line| (text(&line["key"]), text(&line["value"]))).collect();
    assert!(content == database.last());
    assert_eq!(dumped.len(), content.len());
    assert!(dumped.iter().map(|line| text(&line["key"])).eq(content.into_keys()), "sorted by key");
    for line in &dumped {
        let timestamp = usize::try_from(line["timestamp"].as_u64().unwrap()).unwrap();
        let (key, value) = (text(&line["key"]), text(&line["value"]));
        assert!(database.commits[timestamp - 1].contains(&(key, Some(value))), "{line}");
    }

    let file = root.path().join("dump.ndjson");
    let output = [OsStr::new("--output"), file.as_os_str()];
    let to_file = on(&database.path, "dump", &output);
    assert_eq!((to_file.status, to_file.stdout.as_str()), (0, ""));
    assert!(fs::read_to_string(&file).unwrap() == run.stdout);
    on(&database.path, "dump", &output).assert_fails(2, "exists already");
    let within = database.path.join("dump");
    on(&database.path, "dump", &[OsStr::new("-o"), within.as_os_str()]).assert_fails(2, "lies within");
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    row: i64,
    column: u8,
}

#[derive(Deserialize, Default)]
struct Anything {
    big: u64,
    small: i64,
    numbers: Vec<f64>,
    names: BTreeMap<u8, Option<bool>>,
    #[serde(skip_deserializing)]
    blob: Blob,
}

impl Serialize for Anything {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Anything", 5)?;
        fields.serialize_field("big", &self.big)?;
        fields.serialize_field("small", &self.small)?;
        fields.serialize_field("numbers", &self.numbers)?;
        fields.serialize_field("names", &self.names)?;
        fields.serialize_field("blob", &self.blob)?;
        fields.end()
    }
}

#[derive(Default)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[tokio::test]
async fn any_types_are_dumped() {
    let root = root();
    let path = root.path().join("db");
    let engine: Engine<Place, Anything> = Engine::builder().shards(2).open(&path).await.unwrap();
    let db = engine.handle();
    let value = Anything {
        big: u64::MAX,
        small: -5,
        numbers: vec![1.0, f64::NAN, f64::NEG_INFINITY, 0.1],
        names: BTreeMap::from([(7, Some(true)), (200, None)]),
        blob: Blob(vec![0, 255]),
    };
    db.insert(Place { row: -1, column: 3 }, value).await.unwrap();
    db.insert(Place { row: 1 << 60, column: 0 }, Anything::default()).await.unwrap();
    db.insert(Place { row: -300, column: 9 }, Anything::default()).await.unwrap();
    engine.close().await.unwrap();
    let dumped = lines(&on(&path, "dump", &[]).stdout);
    assert_eq!(
        dumped.iter().map(|line| line["key"].clone()).collect::<Vec<_>>(),
        [
            json!({ "row": -300, "column": 9 }),
            json!({ "row": -1, "column": 3 }),
            json!({ "row": { "$int": "1152921504606846976" }, "column": 0 }),
        ]
    );
    assert_eq!(
        dumped[1],
        json!({
            "key": { "row": -1, "column": 3 },
            "value": {
                "big": { "$int": "18446744073709551615" },
                "small": -5,
                "numbers": [1.0, { "$float": "NaN" }, { "$float": "-Infinity" }, 0.1],
                "names": { "$map": [[7, true], [200, null]] },
                "blob": { "$bin": "00ff" },
            },
            "timestamp": 1,
        })
    );
}

#[tokio::test]
async fn a_damaged_database_is_not_dumped() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(20).await;
    flip(&database.path.join("log-0001-0000.wal"), 512 + 8);
    let run = on(&database.path, "dump", &[]);
    run.assert_fails(1, "is damaged");
    assert!(run.stdout.is_empty() && run.stderr.contains("anabranch salvage"), "{run:?}");
}
