# SPDX-License-Identifier: Apache-2.0
"""`brim run --python-janitor`: the janitor of brim.torch for a program that is not ours to edit.

Python imports the first sitecustomize on its path; `brim run` puts this folder there. It waits for
the program's own `import torch` and starts the janitor's thread after it, nothing else. The law: a
guest never notices a failure of this file. It is told to the daemon, and the program goes on.

Any Python may come by, also one that is too old for the package (a script of Python 2 that the
program starts): this file is written so that all of them can read it, and those go on without us.
"""
import sys


IS_OLD = sys.version_info < (3, 9)


def _package():
    """The name under which the package is imported: the program's own brim where it has one, so
    that its bursts are seen; else ours under another name. Nothing that the program could not
    import without us can be imported with us."""
    import importlib.util
    import os
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.find_spec("brim")
    if spec is not None and spec.origin and os.path.isfile(
            os.path.join(os.path.dirname(spec.origin), "_janitor", "sitecustomize.py")):
        return "brim"
    name = "_brim_janitor"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, os.path.join(own, "__init__.py"), submodule_search_locations=[own])
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return name


def _module(name):
    import importlib
    return importlib.import_module(_package() + "." + name)


def _tell(what, error):
    try:
        import os
        _module("_note").note("the janitor of pid %d did not start: %s: %s: %s"
                              % (os.getpid(), what, type(error).__name__, error))
    except Exception:
        pass


def _find_hidden():
    """What runs the sitecustomize that ours has hidden; None where there is none."""
    try:
        import os
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
        if IS_OLD and sys.version_info < (3, 5):
            import imp
            found = imp.find_module("sitecustomize", sys.path)
            return lambda: imp.load_module("sitecustomize", *found)
        import importlib.util
        from importlib.machinery import PathFinder
        spec = PathFinder.find_spec("sitecustomize", sys.path)
        if spec is None or spec.loader is None:
            return None
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        return lambda: spec.loader.exec_module(module)
    except ImportError:
        return None
    except Exception as error:
        _tell("sitecustomize", error)
        return None


class _TorchFinder(object):
    """Stands in front of the import of torch and lets the real finders do it. It stays until torch
    has really been imported: many libraries only ask whether it could be."""

    is_asking = False

    def find_spec(self, name, path=None, target=None):
        if name != "torch" or self.is_asking:
            return None
        self.is_asking = True
        try:
            import importlib.util
            spec = importlib.util.find_spec("torch")
            if spec is not None and hasattr(spec.loader, "exec_module"):
                load = spec.loader.exec_module

                def exec_module(module):
                    load(module)
                    if self in sys.meta_path:
                        sys.meta_path.remove(self)
                        _start()

                spec.loader.exec_module = exec_module
            return spec
        except Exception as error:
            _tell("import torch", error)
            return None
        finally:
            self.is_asking = False


def _start():
    try:
        _module("torch").start_janitor()
    except Exception as error:
        _tell("start", error)


if not IS_OLD:
    sys.meta_path.insert(0, _TorchFinder())
_hidden = _find_hidden()
if _hidden is not None:
    _hidden()  # what it raises is its own business, and goes where it would have gone
