"""Analysis of the loss: gradients by term, by user and by item, and the loss's curvature.

Most are pure functions of (params, tables, batch, key), to be called, jitted and differentiated again from other code;
`study`, `probe` and `teachers` are not, nor is anything that prints. Docs: `docs/gradients.md`; an example of their
use: `docs/forking.md`.

    parameter_groups  the part of the model that a parameter belongs to; inner products by part
    terms             the gradient of each term of the loss; norms, cosines
    users             the part of the gradient that each user has, in blocks of bounded memory; the noise scale
    items             the rows of an item table: the share of tail items, by their role
    curvature         Hessian-vector products, leading eigenvalues, a loss surface
    landscape         the Hessian's spectrum by stochastic Lanczos; the loss on the line between two models
    gauss_newton      products with the Gauss-Newton matrix
    influence         the effect of training on a user on the loss of others
    teachers          the influence of each user, at one state of a run
    probe             all other measurements at one state of a run, as numbers
    study             the measurements at one or more epochs of a run, written to files
"""
