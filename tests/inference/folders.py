"""Looking into folders of results."""


def file_names(folder):
    return sorted(path.name for path in folder.iterdir())
