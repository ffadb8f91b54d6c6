"""Looking into folders of results."""


def listed(folder):
    return sorted(path.name for path in folder.iterdir())
