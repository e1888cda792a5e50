pub(crate) fn main(_: &crate::args::CompareArgs) -> anyhow::Result<()> {
    Ok(())
}
