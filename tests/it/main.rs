//! Whole-engine tests through the public face, a module for each behaviour.
mod smoke;
