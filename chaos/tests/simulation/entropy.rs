use mux_chaos::sim::entropy;
use mux_chaos::sim::random::seed_of;
use rand::TryRngCore as _;
use std::hash::BuildHasher as _;
use std::thread;

/// Something drawn on a new thread, which was given a seed, or none.
fn draw(seed: Option<u64>, source: fn() -> Vec<u8>) -> Vec<u8> {
    let thread = thread::spawn(move || {
        if let Some(seed) = seed {
            entropy::seed_thread(seed_of(seed, "test"));
        }
        source()
    });
    thread.join().unwrap()
}

fn follows_the_seed(source: fn() -> Vec<u8>) {
    let first = draw(Some(1), source);
    assert!(!first.is_empty() && first.iter().any(|byte| *byte != 0));
    assert_eq!(first, draw(Some(1), source), "the same seed");
    assert_ne!(first, draw(Some(2), source), "another seed");
    assert_ne!(draw(None, source), draw(None, source), "no seed: the operating system's own");
}

#[test]
fn hash_maps_of_the_standard_library() {
    follows_the_seed(|| std::collections::hash_map::RandomState::new().hash_one(1).to_be_bytes().to_vec());
}

#[test]
fn rand_0_9() {
    follows_the_seed(|| rand::random::<[u8; 32]>().to_vec());
    follows_the_seed(|| {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).unwrap();
        bytes.to_vec()
    });
}

#[test]
fn rand_0_8_and_with_it_new_keys() {
    follows_the_seed(|| secp256k1::rand::random::<[u8; 32]>().to_vec());
    follows_the_seed(|| secp256k1::SecretKey::new(&mut secp256k1::rand::rngs::OsRng).secret_bytes().to_vec());
}

#[test]
fn secp256k1_contexts_draw_from_it() {
    let drawn = draw(Some(1), || {
        let before = entropy::drawn();
        let _context = secp256k1::Secp256k1::new();
        (entropy::drawn() - before).to_be_bytes().to_vec()
    });
    assert_ne!(drawn, 0_u64.to_be_bytes(), "what it blinds itself with");
}

#[test]
fn getrandom_in_all_versions() {
    follows_the_seed(|| {
        let mut bytes = [0; 32];
        getrandom02::getrandom(&mut bytes).unwrap();
        bytes.to_vec()
    });
    follows_the_seed(|| {
        let mut bytes = [0; 32];
        getrandom03::fill(&mut bytes).unwrap();
        bytes.to_vec()
    });
    follows_the_seed(|| {
        let mut bytes = [0; 32];
        getrandom04::fill(&mut bytes).unwrap();
        bytes.to_vec()
    });
}

#[test]
fn ring() {
    use ring::rand::SecureRandom as _;
    follows_the_seed(|| {
        let mut bytes = [0; 32];
        ring::rand::SystemRandom::new().fill(&mut bytes).unwrap();
        bytes.to_vec()
    });
}

#[test]
fn a_runtime_draws_from_it_where_it_chooses() {
    let drawn = draw(Some(1), || {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {});
        entropy::drawn().to_be_bytes().to_vec()
    });
    assert_ne!(drawn, 0_u64.to_be_bytes());
}

#[test]
fn the_program_has_the_symbols() {
    assert!(entropy::is_in_force());
}

/// Every version that anything is built with is among those tested above.
#[test]
fn there_are_no_other_versions() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let versions = packages.iter().filter(|package| package["name"].as_str() == Some("getrandom"));
    let mut versions: Vec<&str> =
        versions.map(|package| package["version"].as_str().unwrap().rsplit_once('.').unwrap().0).collect();
    versions.sort_unstable();
    assert_eq!(versions, ["0.2", "0.3", "0.4"]);
}
