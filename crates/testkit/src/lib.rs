//! Scripted agents, a scripted model server and test repositories.
