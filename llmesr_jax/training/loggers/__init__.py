"""Where the numbers of each epoch, and of the test, go besides metrics.jsonl.

A logger is one file here, found by its name, with

    PACKAGE       what must be importable
    INSTALL       what `pip install` calls it
    Logger(folder, last_epoch, config)
        folder      of the run; exists
        last_epoch  of the checkpoint that the run continues from, 0 for a new run: later epochs will come again
        config      {key: value}, the run's settings
      .write(epoch, {name: number})   after each epoch, and once more with the test's metrics
      .close()                        at the end of the run or at its crash

Several are open at once where `launch.sweep` trains runs together, so a logger keeps no state of the whole process.
"""

from llmesr_jax.core.plugins import Plugins

PLUGINS = Plugins("logger", __name__)
