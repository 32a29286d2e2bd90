"""The work folder: one JSON file for each result, written whole, so that a run that was stopped goes on."""
import json
import os


class Store:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def path(self, name):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def read(self, name):
        """What was written, or None."""
        path = os.path.join(self.folder, name + ".json")
        if not os.path.exists(path):
            return None
        with open(path) as file:
            return json.load(file)

    def write(self, name, value):
        path = self.path(name + ".json")
        new = f"{path}.{os.getpid()}.new"  # parts may run side by side
        with open(new, "w") as file:
            json.dump(value, file, ensure_ascii=False)
        os.replace(new, path)

    def all(self, group):
        """Every result under a folder, by name."""
        folder = os.path.join(self.folder, group)
        names = sorted(name[:-5] for name in os.listdir(folder) if name.endswith(".json")) if os.path.isdir(folder) else []
        return [self.read(f"{group}/{name}") for name in names]
