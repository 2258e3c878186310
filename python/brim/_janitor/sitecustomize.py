# SPDX-License-Identifier: Apache-2.0
"""`brim run --python-janitor`: the janitor of brim.torch for a program that is not ours to edit.

Python imports the first sitecustomize on its path; `brim run` puts this folder there. It waits for
the program's own `import torch` and starts the janitor's thread after it, nothing else. The law: a
guest never notices a failure of this file. It is told to the daemon, and the program goes on.
"""
import sys


def _tell(what, error):
    try:
        from brim._note import note
        note(f"the janitor of pid {__import__('os').getpid()} did not start: {what}: "
             f"{type(error).__name__}: {error}")
    except Exception:
        pass


def _chain():
    """Ours has hidden a sitecustomize of the program's own: it runs now, as it would have. What it
    raises is its own business, and goes where it would have gone."""
    import importlib.machinery
    import importlib.util
    import os
    here = os.path.dirname(os.path.abspath(__file__))
    path = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    sys.path[:] = path
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


class _TorchFinder:
    """Stands in front of the import of torch once, and lets the real finders do it."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        try:
            sys.meta_path.remove(self)
            import importlib.util
            spec = importlib.util.find_spec("torch")
            if spec is not None and spec.loader is not None:
                load = spec.loader.exec_module

                def exec_module(module):
                    load(module)
                    _start()

                spec.loader.exec_module = exec_module
            return spec
        except Exception as error:
            _tell("import torch", error)
            return None


def _start():
    try:
        from brim.torch import start_janitor
        start_janitor()
    except Exception as error:
        _tell("start", error)


def _prepare():
    try:
        import os
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        if package not in sys.path:
            sys.path.append(package)  # at the end: nothing of the program's is hidden
        sys.meta_path.insert(0, _TorchFinder())
    except Exception as error:
        _tell("prepare", error)


_prepare()
_chain()
