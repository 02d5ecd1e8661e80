//! The README tells which APIs and versions are served.

use crate::api::markdown_table;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const BEGIN: &str = "<!-- api-table -->\n";
const END: &str = "<!-- /api-table -->";

/// With `OTTLA_UPDATE_README=1`, writes the table instead of comparing it.
#[test]
fn the_readme_has_the_table_of_apis() {
    let readme = std::fs::read_to_string(README).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    if std::env::var_os("OTTLA_UPDATE_README").is_some() {
        std::fs::write(README, format!("{before}{BEGIN}{}{END}{after}", markdown_table())).unwrap();
        return;
    }
    assert_eq!(table, markdown_table(), "run the test with OTTLA_UPDATE_README=1");
}
