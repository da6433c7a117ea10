//! Against a real registry, against registries and tars that are hostile, and killed half way.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile_registry;
#[cfg(test)]
mod hostile_tar;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod merged;
#[cfg(test)]
mod ordinary;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod sharing;
