mod conformance;
mod crash;
mod fake_engine;
mod inline;
mod writing;
