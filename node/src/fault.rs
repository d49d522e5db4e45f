//! The named moments of a node around its consensus at which a simulation may step in: see [`mux_raft::fault`], whose list
//! these continue. Nothing at all in production.

/// Every point of this crate, with what has happened when it is met.
pub const POINTS: [(&str, &str); 4] = [
    (
        "offer.screened",
        "offers of a link are judged as far as that goes without consensus; nothing is proposed",
    ),
    ("proposal.ended", "what a link proposed is applied, or not; the link does not know"),
    ("answer.worded", "an answer to LND has its words; LND has not got it"),
    ("answer.given", "an answer was given to the stream to LND"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn collect(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let calls = text.split("fault::point(\"").skip(1);
                found
                    .extend(calls.filter_map(|rest| rest.split_once("\")")).map(|(name, _)| name.to_owned()));
            }
        }
    }

    #[test]
    fn the_list_of_points_is_that_of_the_sources() {
        let mut found = BTreeSet::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let listed: BTreeSet<String> = POINTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, listed);
        let others = mux_raft::fault::POINTS.map(|(name, _)| name);
        assert!(POINTS.iter().all(|(name, _)| !others.contains(name)));
    }
}
