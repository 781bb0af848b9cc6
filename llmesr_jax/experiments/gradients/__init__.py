"""Analysis of the loss: gradients by term, by user and by item, and the loss's curvature.

All but `study`, `probe`, `teachers` and what prints are pure functions of (params, tables, batch, key), made to be called, jitted
and differentiated again from other code. Docs: `docs/gradients.md`; a use of it: `docs/forking.md`.

    parameter_groups  which part of the model a parameter belongs to; inner products by part
    terms             the gradient of each term of the loss; norms, cosines
    users             the part of the gradient that each user has, in blocks of bounded memory; the noise scale
    items             the rows of an item table: the share of tail items, by their role
    curvature         Hessian-vector products, leading eigenvalues, a loss surface
    landscape         the Hessian's spectrum by stochastic Lanczos; the loss on the line between two models
    gauss_newton      products with the Gauss-Newton matrix
    influence         the effect of a user's training on the loss of others; teachers: of each user, at one state
    probe             everything else at one state of a run, as numbers; study: over a run's training, into files
"""
